"""Prompts, responses and rollouts as tokens, and the forward passes that read log-probabilities and states from them.

Shapes: B rows, P prompt tokens (padded on the left), T response tokens (padded on the right), S = P + T.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import PreTrainedModel

from zoo_core.compute.micro_batches import forward_pass
from zoo_core.compute.packing import Packing, TokenRow, packs
from zoo_core.compute.placing import sent, spread
from zoo_core.functional import token_logprobs
from zoo_core.reward import Sample
from zoo_core.rows import Columns, Text

Part = TypeVar("Part")


@dataclass(frozen=True)
class Prompts:
    """Tokenised prompts."""

    tokens: Int[Tensor, "B P"]
    attention: Bool[Tensor, "B P"]
    """True on real tokens."""
    texts: Sequence[Text]
    given: Sequence[TokenRow] | None = field(default=None, kw_only=True, repr=False)
    """The token rows that the batch was made of, where they are known: reading them back makes a GPU wait."""
    columns: Sequence[Columns] | None = field(default=None, kw_only=True, repr=False)
    """The columns of the row that each prompt came from, for rewards; None if the prompts came from no data."""

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, rows: Int[Tensor, " M"]) -> "Prompts":
        places = rows.tolist()
        texts = [self.texts[place] for place in places]
        given, columns = _some(self.given, places), _some(self.columns, places)
        return Prompts(self.tokens[rows], self.attention[rows], texts, given=given, columns=columns)

    @property
    def rows(self) -> Sequence[TokenRow]:
        """The tokens of each prompt without padding."""
        if self.given is not None:
            return self.given
        lengths = self.attention.sum(1).tolist()
        return [(row[len(row) - length :], ()) for row, length in zip(self.tokens.tolist(), lengths, strict=True)]

    def repeat(self, times: int) -> "Prompts":
        """Return each prompt `times` times, with its copies next to each other."""
        places = [place for place in range(len(self)) for _ in range(times)]
        tokens, attention = (each.repeat_interleave(times, 0) for each in (self.tokens, self.attention))
        texts = tuple(self.texts[place] for place in places)
        given, columns = _some(self.given, places), _some(self.columns, places)
        return Prompts(tokens, attention, texts, given=given, columns=columns)


@dataclass(frozen=True)
class Responses:
    """Prompts with one response each."""

    tokens: Int[Tensor, "B S"]
    attention: Bool[Tensor, "B S"]
    """True on real tokens, of prompt and response."""
    prompt_length: int
    """P: columns that belong to the prompts."""
    mask: Bool[Tensor, "B T"]
    """True on the tokens of each response, its end included."""
    given: Sequence[TokenRow] | None = field(default=None, kw_only=True, repr=False)
    """The token rows that the batch was made of, where they are known: reading them back makes a GPU wait."""

    @classmethod
    def join(cls, prompts: Prompts, tokens: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> "Responses":
        """Return prompts with the response tokens that follow each of them."""
        lengths = mask.sum(1).tolist()
        given = [
            (prompt, row[:length])
            for (prompt, _), row, length in zip(prompts.rows, tokens.tolist(), lengths, strict=True)
        ]
        return Responses(
            torch.cat([prompts.tokens, tokens], 1),
            torch.cat([prompts.attention, mask], 1),
            prompts.tokens.shape[1],
            mask,
            given=given,
        )

    @classmethod
    def of(cls, rows: Sequence[TokenRow], pad: int, device: torch.device) -> "Responses":
        """Make a batch of token rows: prompts padded on the left, responses on the right."""
        before, after = (max(len(row[part]) for row in rows) for part in (0, 1))
        tokens = torch.full((len(rows), before + after), pad)
        attention = torch.zeros_like(tokens, dtype=torch.bool)
        for row, (prompt, response) in enumerate(rows):
            place = slice(before - len(prompt), before + len(response))
            tokens[row, place] = torch.tensor([*prompt, *response])
            attention[row, place] = True
        given = [(list(prompt), list(response)) for prompt, response in rows]
        return cls(tokens.to(device), attention.to(device), before, attention[:, before:].to(device), given=given)

    @property
    def responses(self) -> Int[Tensor, "B T"]:
        """The response tokens."""
        return self.tokens[:, self.prompt_length :]

    @property
    def positions(self) -> Int[Tensor, "B S"]:
        """The position of each token in its row, not counting the padding before it."""
        return (self.attention.long().cumsum(1) - 1).clamp(min=0)

    @property
    def slots(self) -> Bool[Tensor, "B slots"]:
        """True on the states of a response: one before each of its tokens, and one after the last."""
        return pad(self.mask, (1, 0), value=True)

    @property
    def inputs(self) -> dict[str, Any]:
        """The arguments for calling a Hugging Face model on this batch."""
        return {"input_ids": self.tokens, "attention_mask": self.attention.long(), "position_ids": self.positions}

    @property
    def rows(self) -> Sequence[TokenRow]:
        """The tokens of each prompt and of its response without padding."""
        if self.given is not None:
            return self.given
        prompts, lengths = self.attention[:, : self.prompt_length].sum(1).tolist(), self.mask.sum(1).tolist()
        return [
            (row[self.prompt_length - prompt : self.prompt_length], row[self.prompt_length :][:length])
            for row, prompt, length in zip(self.tokens.tolist(), prompts, lengths, strict=True)
        ]

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: Int[Tensor, " M"]) -> "Responses":
        return replace(
            self,
            tokens=self.tokens[rows],
            attention=self.attention[rows],
            mask=self.mask[rows],
            given=_some(self.given, rows.tolist()),
        )


@dataclass(frozen=True)
class Rollout(Responses):
    """Responses that the policy sampled."""

    logprobs: Float[Tensor, "B T"]
    """log π(yₜ) under the policy that sampled it, at the sampling temperature. Read it only where the mask is true."""
    ended: Bool[Tensor, " B"]
    """Whether the policy ended the response itself."""
    samples: Sequence[Sample]
    """Prompts and responses as text, for rewards."""

    def __getitem__(self, rows: Int[Tensor, " M"]) -> "Rollout":
        places = rows.tolist()
        return replace(
            self,
            tokens=self.tokens[rows],
            attention=self.attention[rows],
            mask=self.mask[rows],
            given=_some(self.given, places),
            logprobs=self.logprobs[rows],
            ended=self.ended[rows],
            samples=[self.samples[place] for place in places],
        )


def _some(parts: Sequence[Part] | None, places: Sequence[int]) -> list[Part] | None:
    return None if parts is None else [parts[place] for place in places]


@runtime_checkable
class RolloutEngine(Protocol):
    """A function that samples one response per prompt: `sample_cached`, or a plugin's (`zoo_rollout_engine`)."""

    def __call__(
        self,
        policy: PreTrainedModel,
        prompts: Prompts,
        *,
        response_tokens: int,
        temperature: float,
        eos: Collection[int],
        pad: int,
        generator: torch.Generator,
    ) -> tuple[Int[Tensor, "B T"], Float[Tensor, "B T"]]:
        """Return the tokens of responses, with `pad` on the right, and their log-probabilities at this temperature.

        T is between 1 and `response_tokens`. Any of the ids in `eos` ends a response (`zoo_core.datasets.chat`).
        Temperature 0 is greedy decoding; its log-probabilities are those at temperature 1. All randomness comes from
        `generator`. Every rank calls the engine with all rows and must get the same results; an engine may divide the
        rows among ranks (`zoo_core.compute.data_parallel.across_ranks`).
        """
        ...


AS_THEY_ARE = nn.Identity()
"""The head that returns hidden states unchanged."""


def response_logprobs(policy: PreTrainedModel, responses: Responses, temperature: float = 1.0) -> Float[Tensor, "B T"]:
    """Return log π(yₜ | x, y₍<t₎) of every response token; 0 where the mask is false. Collective."""
    return forward_pass(lambda some: _response_logprobs(policy, some, temperature), responses, policy)


def _response_logprobs(policy: PreTrainedModel, responses: Responses, temperature: float) -> Float[Tensor, "B T"]:
    # The last token of a response predicts nothing, and a response without tokens has nothing to be predicted.
    read = [(prompt, response[:-1]) for prompt, response in responses.rows if response]
    if not (read and packs(policy)):
        logprobs = token_logprobs(response_logits(policy, responses), responses.responses, temperature)
        return logprobs.masked_fill(~responses.mask, 0.0)
    packing = Packing.of(read, policy.device)
    (targets,) = sent([[token for _, response in responses.rows for token in response]], policy.device)
    logits = policy(**packing.inputs, use_cache=False, logits_to_keep=packing.reads).logits[0]
    lengths = [len(response) for _, response in responses.rows]
    return spread(token_logprobs(logits, targets, temperature), lengths, responses.mask.shape[1])


def response_logits(policy: PreTrainedModel, responses: Responses) -> Float[Tensor, "B T V"]:
    """Return the logits that predict each response token; no others are computed."""
    kept = responses.tokens.shape[1] - responses.prompt_length + 1
    logits = policy(**responses.inputs, use_cache=False, logits_to_keep=kept).logits
    return logits[:, :-1]  # type: ignore[no-any-return]  # the logits at position i predict token i + 1


def response_states(body: nn.Module, responses: Responses, head: nn.Module = AS_THEY_ARE) -> Float[Tensor, "B slots D"]:
    """Return the last hidden states before each response token and after the last one; 0 where the slots are false.

    With a `head`, return its outputs on these states. Collective.
    """
    return forward_pass(lambda some: _response_states(body, some, head), responses, body, head)


def _response_states(body: nn.Module, responses: Responses, head: nn.Module) -> Float[Tensor, "B slots D"]:
    if not packs(body):
        states = body(**responses.inputs, use_cache=False).last_hidden_state[:, responses.prompt_length - 1 :]
        return head(states).masked_fill(~responses.slots.unsqueeze(-1), 0.0)  # type: ignore[no-any-return]
    packing = Packing.of(responses.rows, responses.tokens.device)
    states = body(**packing.inputs, use_cache=False).last_hidden_state[0]
    return spread(head(states[packing.reads]), packing.counts, responses.slots.shape[1])


def text_states(body: nn.Module, responses: Responses) -> tuple[Float[Tensor, "B S D"], Bool[Tensor, "B S"]]:
    """Return the last hidden state of every token of prompt and response, 0 on padding, and their mask. Collective."""
    return forward_pass(lambda some: _text_states(body, some), responses, body), responses.attention


def _text_states(body: nn.Module, responses: Responses) -> Float[Tensor, "B S D"]:
    if not packs(body):
        states = body(**responses.inputs, use_cache=False).last_hidden_state
        return states.masked_fill(~responses.attention.unsqueeze(-1), 0.0)  # type: ignore[no-any-return]
    nothing_shared = [((), [*prompt, *response]) for prompt, response in responses.rows]
    packing = Packing.of(nothing_shared, responses.tokens.device)
    states = body(**packing.inputs, use_cache=False).last_hidden_state[0]
    starts = [responses.prompt_length - len(prompt) for prompt, _ in responses.rows]
    return spread(states[packing.reads], packing.counts, responses.attention.shape[1], starts)


def logprobs_and_states(
    policy: PreTrainedModel, responses: Responses, temperature: float = 1.0, head: nn.Module = AS_THEY_ARE
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B slots D"]]:
    """Return the results of `response_logprobs` and `response_states`, from a single forward pass. Collective."""

    def compute(some: Responses) -> tuple[Tensor, Tensor]:
        return _logprobs_and_states(policy, some, temperature, head)

    logprobs, states = forward_pass(compute, responses, policy, head)
    return logprobs, states


def _logprobs_and_states(
    policy: PreTrainedModel, responses: Responses, temperature: float, head: nn.Module
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B slots D"]]:
    read: list[Tensor] = []
    hook = policy.get_output_embeddings().register_forward_pre_hook(lambda _, states: read.append(states[0]))
    packing, width = Packing.of(responses.rows, policy.device) if packs(policy) else None, responses.slots.shape[1]
    inputs, kept = (packing.inputs, packing.reads) if packing else (responses.inputs, width)
    try:
        logits = policy(**inputs, use_cache=False, logits_to_keep=kept).logits
    finally:
        hook.remove()
    # The state after the last token predicts nothing: its target is a placeholder whose log-probability is dropped.
    if packing:
        (targets,) = sent([[token for _, response in responses.rows for token in (*response, 0)]], policy.device)
        every = spread(token_logprobs(logits[0], targets, temperature), packing.counts, width)
        states = spread(head(read[0][0]), packing.counts, width)
    else:
        every = token_logprobs(logits, pad(responses.responses, (0, 1)), temperature)
        states = head(read[0]).masked_fill(~responses.slots.unsqueeze(-1), 0.0)
    return every[:, :-1].masked_fill(~responses.mask, 0.0), states
