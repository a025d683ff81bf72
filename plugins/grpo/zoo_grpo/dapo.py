"""How DAPO makes its batches: it sees to it that groups have spread, and that responses are not too long.

Equation numbers refer to Yu et al. 2025, "DAPO: An Open-Source LLM Reinforcement Learning System at Scale",
arXiv:2503.14476. Shapes: B = prompts · G responses, those of one group next to each other.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from zoo_core.rollout import Responses, Rollout
from zoo_core.run import Run
from zoo_grpo.groups import scored
from zoo_grpo.relatives import DAPOConfig


def overlong_penalties(lengths: Int[Tensor, " B"], response_tokens: int, overlong_share: float) -> Float[Tensor, " B"]:
    """Return what each response loses for its length, 0 to −1, to be added to its score (eq. 13).

    clip((L − C − |y|)/C, −1, 0)   with   C = `overlong_share` · L

    L is `response_tokens`, the longest that a response can be; |y| counts EOS. Up to L − C tokens are free; the last
    one costs all of it. A response that was cut off has L tokens.
    """
    buffer = overlong_share * response_tokens
    return ((response_tokens - buffer - lengths) / buffer).clamp(-1.0, 0.0)


def has_spread(scores: Float[Tensor, " B"], group_size: int) -> Bool[Tensor, " groups"]:
    """Return whether the scores of each group differ; a group in which they do not has no advantages."""
    groups = scores.view(-1, group_size)
    return groups.amax(dim=1) != groups.amin(dim=1)


def rows_to_learn_from(scores: Float[Tensor, " B"], group_size: int, groups: int) -> Int[Tensor, " M"]:
    """Return the rows of the first so many groups with spread (eq. 11); others fill the places that are left.

    Groups stay whole. Those that fill up have advantages of 0: they keep the batch its size and pull at nothing.
    """
    # False sorts before true, and a stable sort leaves each kind in the order of sampling.
    chosen = (~has_spread(scores, group_size)).int().argsort(stable=True)[:groups]
    return (chosen.unsqueeze(1) * group_size + torch.arange(group_size, device=scores.device)).flatten()


def sample_until_full(config: DAPOConfig, run: Run, taken: dict[str, int]) -> tuple[Rollout, Float[Tensor, " B"]]:
    """Sample groups until a batch of them has spread, `config.draws` times at most; return all, with their scores.

    Each draw after the first takes as many new prompts as there are places left. `taken` counts prompts over the run:
    it is kept, so that a resumed run goes on where it was. All that is sampled here is charged.
    """
    places = config.batch_size // config.group_size
    rollouts: list[Rollout] = []
    found: list[Float[Tensor, " B"]] = []
    for _ in range(config.draws):
        rows = [row for place in range(places) for row in run.prompts.take(taken["prompts"] + place, 1)]
        taken["prompts"] += places
        rollout, scores = scored(config, run, run.encode_prompts(rows))
        penalties = overlong_penalties(rollout.mask.sum(1), run.response_tokens, config.overlong_share)
        rollouts.append(rollout)
        found.append(scores + config.overlong_penalty * penalties)
        places -= int(has_spread(found[-1], config.group_size).sum())
        if not places:
            break
    return joined(rollouts, run), torch.cat(found)


def joined(rollouts: Sequence[Rollout], run: Run) -> Rollout:
    """Return the rows of several rollouts, one after the other."""
    if len(rollouts) == 1:
        return rollouts[0]
    pad = run.tokenizer.pad_token_id
    every = Responses.of([row for rollout in rollouts for row in rollout.rows], pad, run.device)
    logprobs = torch.zeros(every.mask.shape, device=run.device)
    logprobs[every.mask] = torch.cat([rollout.logprobs[rollout.mask] for rollout in rollouts])
    return Rollout(
        every.tokens,
        every.attention,
        every.prompt_length,
        every.mask,
        logprobs,
        torch.cat([rollout.ended for rollout in rollouts]),
        [sample for rollout in rollouts for sample in rollout.samples],
        given=every.given,
    )
