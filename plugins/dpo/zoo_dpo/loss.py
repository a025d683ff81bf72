"""The formulas of DPO and of the losses that share its loop, as pure functions.

Equation numbers refer to Rafailov et al. 2023, "Direct Preference Optimization: Your Language Model is
Secretly a Reward Model", arXiv:2305.18290, unless another paper is named.

Shapes: B pairs of responses to one prompt each.
"""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid


def dpo_loss(
    chosen_log_ratio: Float[Tensor, " B"], rejected_log_ratio: Float[Tensor, " B"], beta: float
) -> Float[Tensor, ""]:
    """Return the negative log-likelihood of the preferences in nats (eq. 7), averaged over pairs.

    L = −mean log σ(β (h_w − h_l))   with   h = Σₜ log π(yₜ|x, y₍<ₜ₎) − log π_ref(yₜ|x, y₍<ₜ₎)

    `chosen_log_ratio` is h_w of the preferred response, `rejected_log_ratio` is h_l of the other. Each is the
    *sum* over response tokens, the end-of-text token among them; a mean per token would be another method. β
    h is the reward that the policy implies, up to a function of the prompt: the larger β, the stronger the
    pull to the reference.
    """
    return -logsigmoid(beta * (chosen_log_ratio - rejected_log_ratio)).mean()


def conservative_dpo_loss(
    chosen_log_ratio: Float[Tensor, " B"], rejected_log_ratio: Float[Tensor, " B"], beta: float, label_noise: float
) -> Float[Tensor, ""]:
    """Return the cross-entropy to labels that are wrong with probability ε, in nats, averaged over pairs.

    L = −mean [(1 − ε) log σ(β d) + ε log σ(−β d)]   with   d = h_w − h_l

    Mitchell 2023, "A note on DPO with noisy preferences & relationship to IPO", eq. 3. h is the sum over
    tokens, as in `dpo_loss`. The loss is least at β d = log((1 − ε)/ε), where DPO's falls for ever.
    """
    margin = beta * (chosen_log_ratio - rejected_log_ratio)
    return -((1 - label_noise) * logsigmoid(margin) + label_noise * logsigmoid(-margin)).mean()


def robust_dpo_loss(
    chosen_log_ratio: Float[Tensor, " B"], rejected_log_ratio: Float[Tensor, " B"], beta: float, label_noise: float
) -> Float[Tensor, ""]:
    """Return an unbiased estimate of DPO's loss on the true labels, in nats, averaged over pairs.

    L = −mean [(1 − ε) log σ(β d) − ε log σ(−β d)] / (1 − 2ε)   with   d = h_w − h_l

    Chowdhury et al. 2024, arXiv:2403.00409, eq. 11. h is the sum over tokens, as in `dpo_loss`. Its mean over
    labels of which a share ε is flipped is `dpo_loss` on labels of which none is. On a single pair it has no
    lower bound: it falls by β ε/(1 − 2ε) for each nat of a large margin.
    """
    margin = beta * (chosen_log_ratio - rejected_log_ratio)
    unflipped = (1 - label_noise) * logsigmoid(margin) - label_noise * logsigmoid(-margin)
    return -(unflipped / (1 - 2 * label_noise)).mean()


def ipo_loss(
    chosen_log_ratio: Float[Tensor, " B"], rejected_log_ratio: Float[Tensor, " B"], tau: float
) -> Float[Tensor, ""]:
    """Return the squared distance of margins from their target, in nats², averaged over pairs.

    L = mean (h_w − h_l − 1/(2τ))²   with   h = (1/|y|) Σₜ log π(yₜ|x, y₍<ₜ₎) − log π_ref(yₜ|x, y₍<ₜ₎)

    Azar et al. 2023, arXiv:2310.12036, eq. 17. Give it *means* over response tokens, the end-of-text token
    among them, for the target to be in nats per token. The paper writes log π of a whole response; TRL reports
    that its authors mean the average. Past the target the gradient turns round.
    """
    return (chosen_log_ratio - rejected_log_ratio - 1 / (2 * tau)).square().mean()


def dpo_nll_loss(
    chosen_log_ratio: Float[Tensor, " B"],
    rejected_log_ratio: Float[Tensor, " B"],
    chosen_logprob: Float[Tensor, " B"],
    chosen_tokens: Int[Tensor, " B"],
    beta: float,
    imitation_coefficient: float,
) -> Float[Tensor, ""]:
    """Return DPO's loss, averaged over pairs, and α times that of imitating the chosen responses, in nats per token.

    L = −mean log σ(β (h_w − h_l)) − α (1/N) Σ log π(y_w | x)   with   N = Σ |y_w|

    Liu et al. 2024 (RPO), arXiv:2405.16436, and Pang et al. 2024 (iterative RPO), arXiv:2404.19733, eq. 1 (which
    divides by the length of prompt and answer). `chosen_logprob` is the sum log π(y_w | x) over `chosen_tokens`
    tokens. DPO alone may lower both likelihoods of a pair; this holds the chosen one up.
    """
    imitation = -chosen_logprob.sum() / chosen_tokens.sum()
    return dpo_loss(chosen_log_ratio, rejected_log_ratio, beta) + imitation_coefficient * imitation


def dpo_norm_loss(
    chosen_log_ratio: Float[Tensor, " B"],
    rejected_log_ratio: Float[Tensor, " B"],
    chosen_tokens: Int[Tensor, " B"],
    rejected_tokens: Int[Tensor, " B"],
    beta: float,
) -> Float[Tensor, ""]:
    """Return DPO's loss of log-ratios per token, in nats, averaged over pairs.

    L = −mean log σ(β (h_w/|y_w| − h_l/|y_l|))

    Lambert et al. 2024 (Tülu 3), arXiv:2411.15124, section 5.1. A long response has no larger log-ratio than a
    short one for its length alone, so β is as many times that of DPO as responses have tokens.
    """
    return dpo_loss(chosen_log_ratio / chosen_tokens, rejected_log_ratio / rejected_tokens, beta)


def dpo_positive_loss(
    chosen_log_ratio: Float[Tensor, " B"],
    rejected_log_ratio: Float[Tensor, " B"],
    beta: float,
    penalty_coefficient: float,
) -> Float[Tensor, ""]:
    """Return DPO's loss with a penalty where a chosen response became less likely, in nats, averaged over pairs.

    L = −mean log σ(β (h_w − h_l − λ max(0, −h_w)))

    Pal et al. 2024 (Smaug), arXiv:2402.13228, eq. 3. Where h_w is 0 or more it is DPO's loss; below, each nat that
    the chosen response lost costs λ nats of margin more.
    """
    return dpo_loss(chosen_log_ratio - penalty_coefficient * (-chosen_log_ratio).relu(), rejected_log_ratio, beta)
