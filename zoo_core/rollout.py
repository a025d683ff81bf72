"""Sampling responses, and reading log-probabilities back from them.

Shapes: B rows, P prompt tokens (padded on the left), T response tokens (padded on the right), S = P + T.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from zoo_core.data import Text
from zoo_core.functional import token_logprobs
from zoo_core.reward import Sample


@dataclass(frozen=True)
class Prompts:
    """Tokenised prompts."""

    tokens: Int[Tensor, "B P"]
    attention: Bool[Tensor, "B P"]
    """True on real tokens."""
    texts: Sequence[Text]

    def __len__(self) -> int:
        return len(self.texts)

    def repeat(self, times: int) -> "Prompts":
        """Each prompt `times` times, copies next to each other."""
        texts = tuple(text for text in self.texts for _ in range(times))
        return Prompts(self.tokens.repeat_interleave(times, 0), self.attention.repeat_interleave(times, 0), texts)


@dataclass(frozen=True)
class Responses:
    """Prompts with one response each."""

    tokens: Int[Tensor, "B S"]
    attention: Bool[Tensor, "B S"]
    """True on real tokens, of prompt and response."""
    prompt_length: int
    """P: columns that belong to the prompts."""
    mask: Bool[Tensor, "B T"]
    """True on response tokens up to and including EOS."""

    @classmethod
    def join(cls, prompts: Prompts, tokens: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> "Responses":
        """Put responses behind their prompts."""
        return Responses(
            torch.cat([prompts.tokens, tokens], 1),
            torch.cat([prompts.attention, mask], 1),
            prompts.tokens.shape[1],
            mask,
        )

    @property
    def responses(self) -> Int[Tensor, "B T"]:
        """The response tokens."""
        return self.tokens[:, self.prompt_length :]

    @property
    def positions(self) -> Int[Tensor, "B S"]:
        """Position of each token in its own row, whatever padding stands before it."""
        return (self.attention.long().cumsum(1) - 1).clamp(min=0)

    @property
    def inputs(self) -> dict[str, Any]:
        """The arguments of a Hugging Face model."""
        return {"input_ids": self.tokens, "attention_mask": self.attention.long(), "position_ids": self.positions}

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: Int[Tensor, " M"]) -> "Responses":
        return replace(self, tokens=self.tokens[rows], attention=self.attention[rows], mask=self.mask[rows])


@dataclass(frozen=True)
class Rollout(Responses):
    """Responses that the policy sampled."""

    logprobs: Float[Tensor, "B T"]
    """log π(yₜ) at the sampling temperature, when it was sampled; read it only where the mask is true."""
    ended: Bool[Tensor, " B"]
    """Whether the policy ended the response itself, by EOS."""
    samples: Sequence[Sample]
    """The same as text, for rewards."""

    def __getitem__(self, rows: Int[Tensor, " M"]) -> "Rollout":
        return replace(
            self,
            tokens=self.tokens[rows],
            attention=self.attention[rows],
            mask=self.mask[rows],
            logprobs=self.logprobs[rows],
            ended=self.ended[rows],
            samples=[self.samples[row] for row in rows.tolist()],
        )


@runtime_checkable
class RolloutEngine(Protocol):
    """Samples one response per prompt. Implemented by `sample_cached` and by plugins (`zoo_rollout_engine`)."""

    def __call__(
        self,
        policy: PreTrainedModel,
        prompts: Prompts,
        *,
        response_tokens: int,
        temperature: float,
        eos: int,
        pad: int,
        generator: torch.Generator,
    ) -> tuple[Int[Tensor, "B T"], Float[Tensor, "B T"]]:
        """Return tokens (pad behind EOS) and their log-probabilities at this temperature, 1 <= T <= response_tokens.

        Temperature 0 is greedy decoding; its log-probabilities are those at temperature 1. All randomness comes from
        `generator`.
        """
        ...


@torch.no_grad()
def sample_cached(
    policy: PreTrainedModel,
    prompts: Prompts,
    *,
    response_tokens: int,
    temperature: float,
    eos: int,
    pad: int,
    generator: torch.Generator,
) -> tuple[Int[Tensor, "B T"], Float[Tensor, "B T"]]:
    """Sample token by token with a key-value cache, until every row has ended."""
    cache = DynamicCache(config=policy.config)
    attention = prompts.attention.long()
    position = attention.sum(1, keepdim=True)
    step: dict[str, Any] = {"input_ids": prompts.tokens, "position_ids": (attention.cumsum(1) - 1).clamp(min=0)}
    running = torch.ones_like(prompts.attention[:, 0])
    tokens, logprobs = [], []
    for _ in range(response_tokens):
        out = policy(**step, attention_mask=attention, past_key_values=cache, use_cache=True, logits_to_keep=1)
        logits = out.logits[:, -1].float() / (temperature or 1.0)
        if temperature:
            token = torch.multinomial(logits.softmax(-1), 1, generator=generator)
        else:
            token = logits.argmax(-1, keepdim=True)
        logprobs.append(token_logprobs(logits.unsqueeze(1), token).masked_fill(~running.unsqueeze(1), 0.0))
        tokens.append(token.masked_fill(~running.unsqueeze(1), pad))
        attention = torch.cat([attention, running.long().unsqueeze(1)], 1)
        running = running & (token.squeeze(1) != eos)
        if not running.any():
            break
        step = {"input_ids": tokens[-1], "position_ids": position}
        position = position + 1
    return torch.cat(tokens, 1), torch.cat(logprobs, 1)


def response_mask(tokens: Int[Tensor, "B T"], eos: int) -> Bool[Tensor, "B T"]:
    """True up to and including the first EOS of each row."""
    is_eos = (tokens == eos).long()
    return is_eos.cumsum(1) - is_eos == 0


def response_logprobs(policy: PreTrainedModel, responses: Responses, temperature: float = 1.0) -> Float[Tensor, "B T"]:
    """log π(yₜ | x, y₍<t₎) of every response token; read it only where the mask is true."""
    return token_logprobs(response_logits(policy, responses), responses.responses, temperature)


def response_logits(policy: PreTrainedModel, responses: Responses) -> Float[Tensor, "B T V"]:
    """The logits that predict each response token, computed for no other position."""
    kept = responses.tokens.shape[1] - responses.prompt_length + 1
    logits = policy(**responses.inputs, use_cache=False, logits_to_keep=kept).logits
    return logits[:, :-1]  # type: ignore[no-any-return]  # the logits at position i predict token i + 1
