"""The value function of PPO as a model of its own."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from zoo_core.compute.sharding import full_tensor
from zoo_core.errors import ModelError
from zoo_core.models.copies import copied
from zoo_core.models.lora import merged_weights, unadapted
from zoo_core.rollout import Responses, response_states
from zoo_core.run import Run


class Critic(nn.Module):
    """A copy of the policy's body with a scalar head that starts at 0 (Ziegler et al. 2019, section 2.1)."""

    def __init__(self, policy: PreTrainedModel) -> None:
        super().__init__()
        self.body = unadapted(copied(policy.base_model)).requires_grad_(True)
        self.head = value_head(policy)

    def forward(self, responses: Responses) -> Float[Tensor, "B slots"]:
        """Return the value of the state before each response token, and of the state after the last: T + 1 slots."""
        return response_states(self.body, responses, self.head).squeeze(-1)


def value_head(policy: PreTrainedModel) -> nn.Linear:
    """Return a head that values every state at 0."""
    head = nn.Linear(policy.config.hidden_size, 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


@torch.no_grad()
def critic_from_reward(run: Run) -> Critic:
    """Return a critic whose value of a state is the reward model's score of the text so far, in units of `reward`.

    N+ starts from this critic. A critic reads the policy's tokens, so the reward model must have the vocabulary and the
    body shape of the policy. `ModelError` says what differs.
    """
    if run.reward_model is None:
        raise _unfit("the reward is a rule or a judge, not a scorer")
    scorer, calibration = run.reward_model
    theirs, ours = scorer.tokenizer.get_vocab(), run.tokenizer.get_vocab()
    if theirs != ours:
        raise _unfit(f"its vocabulary of {len(theirs)} tokens is another than the policy's of {len(ours)}")
    if not isinstance(scorer.model, PreTrainedModel):
        raise _unfit("it is a ratio of two policies and has no head (reward-model with scorer: last-token has one)")
    critic = Critic(run.policy)
    body = merged_weights(scorer.model.base_model)
    bodies = _describe(scorer.model.base_model, body), _describe(critic.body, critic.body.state_dict())
    if bodies[0] != bodies[1]:
        raise _unfit(f"its body is a {bodies[0]}, the policy's a {bodies[1]}")
    critic.body.load_state_dict(body)
    critic.head.weight.copy_(full_tensor(scorer.model.get_parameter("score.weight")) / calibration.deviation)
    critic.head.bias.fill_(-calibration.mean / calibration.deviation)
    return critic


def _unfit(what: str) -> ModelError:
    return ModelError(
        f"critic='reward': the reward model cannot start this policy's critic: {what}. Use critic='policy'."
    )


def _describe(body: nn.Module, weights: dict[str, Tensor]) -> str:
    widths = sorted({tuple(weight.shape) for weight in weights.values()})
    return f"{type(body).__name__} of {len(weights)} weights with the shapes {widths}"
