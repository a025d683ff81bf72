"""The built-in sampler: it samples token by token, with cached keys and values.

Prompts are read packed, each different prompt once. Each row then has its own part of the cache without padding, and
rows that have ended leave the batch. The random numbers of every row are drawn in advance, so that a row does not
depend on when its neighbours end.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from zoo_core.compute.data_parallel import across_ranks
from zoo_core.compute.fixed_sampler import sampler_of
from zoo_core.compute.packing import TokenRow, packs
from zoo_core.compute.processes import all_reduce_max, world_size
from zoo_core.compute.readers import reader_of
from zoo_core.compute.sharding import is_sharded
from zoo_core.datasets.chat import as_ids
from zoo_core.datasets.encoding import Encoder
from zoo_core.reward import Sample
from zoo_core.rollout import Prompts, Responses, Rollout, RolloutEngine
from zoo_core.rows import Columns

FIXED = {"cuda"}
"""The devices on which tensors that stay where they are (fixed_sampler.py) are faster than those that shrink."""
CROWDED = 0.75
"""Rows that have ended leave when at most this share of the batch still runs, because leaving copies the cache."""


@torch.no_grad()
def sample_cached(
    policy: PreTrainedModel,
    prompts: Prompts,
    *,
    response_tokens: int,
    temperature: float,
    eos: int | Collection[int],
    pad: int,
    generator: torch.Generator,
) -> tuple[Int[Tensor, "B T"], Float[Tensor, "B T"]]:
    """Sample until every row has ended, as `RolloutEngine` describes. Collective.

    The ids that the policy's generation config names end a response, too, as in transformers' `generate`.
    """
    if response_tokens < 1:
        raise ValueError(f"response_tokens={response_tokens} must be 1 or more.")
    # Drawn by step and row, so that a longer limit changes no earlier token.
    uniform = torch.rand(response_tokens, len(prompts), generator=generator, device=prompts.tokens.device)
    drawn = SeededPrompts(prompts, uniform.T)
    named = getattr(policy.generation_config, "eos_token_id", None)  # not every model has such a config
    ends = torch.tensor(sorted({*as_ids(eos), *as_ids(named)}), device=prompts.tokens.device)
    tokens, logprobs, steps = across_ranks(lambda some: _sample(policy, some, temperature, ends, pad), drawn, policy)
    return tokens[:, : int(steps.max())], logprobs[:, : int(steps.max())]


@dataclass(frozen=True)
class SeededPrompts:
    """Prompts, and the random numbers that the response to each is sampled by."""

    prompts: Prompts
    uniform: Float[Tensor, "B T"]

    @property
    def rows(self) -> Sequence[TokenRow]:
        """The tokens of the prompts."""
        return self.prompts.rows

    def __getitem__(self, rows: Int[Tensor, " M"]) -> "SeededPrompts":
        return SeededPrompts(self.prompts[rows], self.uniform[rows])


def _sample(
    policy: PreTrainedModel, drawn: SeededPrompts, temperature: float, ends: Int[Tensor, " E"], pad: int
) -> tuple[Int[Tensor, "B T"], Float[Tensor, "B T"], Int[Tensor, " B"]]:
    """Return tokens, log-probabilities, and the number of tokens of each row, or of the longest for all."""
    uniform, response_tokens = drawn.uniform, drawn.uniform.shape[1]
    if uniform.device.type in FIXED and packs(policy) and not is_sharded(policy):
        fixed = sampler_of(policy, drawn.prompts, response_tokens, len(ends))
        return fixed.sample(policy, drawn.prompts, uniform, choose, temperature, ends, pad)
    tokens = torch.full(uniform.shape, pad, device=uniform.device)
    logprobs = torch.zeros(uniform.shape, device=uniform.device)
    reader = reader_of(policy, drawn.prompts)
    logits, rows = reader.prompts(), torch.arange(len(tokens), device=tokens.device)
    in_step = world_size() > 1 and is_sharded(policy)
    running = torch.ones_like(rows, dtype=torch.bool)
    for step in range(response_tokens):
        token, logprob = choose(logits.float(), uniform[rows, step], temperature)
        tokens[rows, step] = token.masked_fill(~running, pad)
        logprobs[rows, step] = logprob.masked_fill(~running, 0.0)
        running = running & ~torch.isin(token, ends)
        left = int(running.sum())
        # All ranks call a sharded model, or none does.
        if not (all_reduce_max(left) if in_step else left) or step + 1 == response_tokens:
            break
        if 0 < left <= CROWDED * len(rows):
            reader.keep(running)
            rows, token, running = rows[running], token[running], running[running]
        logits = reader.next(token)
    return tokens, logprobs, torch.full_like(tokens[:, 0], step + 1)


def choose(
    logits: Float[Tensor, "B V"], uniform: Float[Tensor, " B"], temperature: float
) -> tuple[Int[Tensor, " B"], Float[Tensor, " B"]]:
    """Return the token at which the cumulative probability passes a number in [0, 1), and its log-probability.

    At temperature 0 return the likeliest token with its log-probability at temperature 1.
    """
    logprobs = (logits / temperature if temperature not in (0.0, 1.0) else logits).log_softmax(-1)
    if temperature:
        cumulative = logprobs.exp().cumsum(-1)
        total = cumulative[:, -1:]
        # Strictly below the total, whatever the rounding: above it there is no token.
        passed = torch.minimum(uniform.unsqueeze(1) * total, total.nextafter(torch.zeros_like(total)))
        token = torch.searchsorted(cumulative, passed, right=True)
    else:
        token = logprobs.argmax(-1, keepdim=True)
    return token.squeeze(1), logprobs.gather(1, token).squeeze(1)


def roll_out(
    engine: RolloutEngine,
    policy: PreTrainedModel,
    prompts: Prompts,
    encoder: Encoder,
    temperature: float,
    generator: torch.Generator,
) -> Rollout:
    """Return a rollout of one response per prompt, sampled by an engine."""
    tokens, logprobs = engine(
        policy,
        prompts,
        response_tokens=encoder.response_tokens,
        temperature=temperature,
        eos=encoder.ends,
        pad=encoder.tokenizer.pad_token_id,
        generator=generator,
    )
    mask = response_mask(tokens, encoder.ends)
    joined = Responses.join(prompts, tokens, mask)
    ended = (is_any_of(tokens, encoder.ends) & mask).any(1)
    texts = [encoder.decode(response) for _, response in joined.rows]
    columns = prompts.columns or [Columns() for _ in texts]
    samples = [Sample(*parts) for parts in zip(prompts.texts, texts, ended.tolist(), columns, strict=True)]
    batch = joined.tokens, joined.attention, joined.prompt_length, mask
    return Rollout(*batch, logprobs, ended, samples, given=joined.given)


def is_any_of(tokens: Int[Tensor, "*B"], ids: int | Collection[int]) -> Bool[Tensor, "*B"]:
    """Return, for each token, whether it is one of these ids."""
    wanted = [ids] if isinstance(ids, int) else sorted(ids)
    return torch.isin(tokens, torch.tensor(wanted, dtype=tokens.dtype, device=tokens.device))


def response_mask(tokens: Int[Tensor, "B T"], eos: int | Collection[int]) -> Bool[Tensor, "B T"]:
    """Return a mask that is true up to and including the first token of each row that ends a response."""
    is_end = is_any_of(tokens, eos).long()
    return is_end.cumsum(1) - is_end == 0
