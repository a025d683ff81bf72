"""What the suite records of a run, and how it compares two."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from zoo_core.datasets.encoding import Encoder
from zoo_core.rollout import Prompts
from zoo_core.rows import DataRow, Text
from zoo_core.session.session import Session

NOT_REPEATED = ("wall_seconds", "peak_memory_bytes", "parameter_bytes", "training_bytes")
"""Fields of a ledger that depend on the process: a run that resumes in a later stage has no old gradients."""


def same_weights(one: nn.Module, other: Mapping[str, Tensor]) -> bool:
    """Return whether a model has these weights bit for bit."""
    state = one.state_dict()
    return state.keys() == other.keys() and all(torch.equal(state[name], other[name]) for name in state)


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a model's weights."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def repeatable(session: Session) -> dict[str, Any]:
    """Return the part of a session's ledger that every repetition of the run must repeat."""
    return {name: value for name, value in session.ledger.report().items() if name not in NOT_REPEATED}


@dataclass
class Finished:
    """A run that went to its end, and what was recorded of it on the way."""

    session: Session
    references: list[tuple[PreTrainedModel, dict[str, Tensor]]]
    """The references that the run made, each with the weights that it had then."""
    start: dict[str, Tensor] = field(default_factory=dict)
    """The weights of the trained model after the first update."""
    history: list[dict[str, float]] = field(default_factory=list)
    spent: list[int] = field(default_factory=list)
    """FLOPs in the ledger at each yield."""
    gradients: list[bool] = field(default_factory=list)
    """Whether gradients were on at each yield."""


@dataclass
class FirstStep:
    """A run until its first update with a step of an optimizer."""

    session: Session
    gradients: list[Tensor] = field(default_factory=list)
    """Of the first step of each optimizer."""
    metrics: dict[str, float] = field(default_factory=dict)
    flops: dict[str, int] = field(default_factory=dict)
    """By role and phase."""


class WideEncoder(Encoder):
    """An encoder that pads every prompt by three more columns than it needs."""

    def prompts(self, prompts: Sequence[Text | DataRow]) -> Prompts:
        """Tokenise prompts."""
        narrow = super().prompts(prompts)
        pad = narrow.tokens.new_full((len(prompts), 3), self.tokenizer.pad_token_id)
        attention = narrow.attention.new_zeros((len(prompts), 3))
        wide = torch.cat([pad, narrow.tokens], 1), torch.cat([attention, narrow.attention], 1)
        return Prompts(*wide, narrow.texts, columns=narrow.columns)


def wide(encoder: Encoder) -> Encoder:
    """Return the same encoder, but with wide padding."""
    return WideEncoder(**{field.name: getattr(encoder, field.name) for field in dataclasses.fields(encoder)})


def rotated(take: Callable[[Any, int, int], list[Any]]) -> Callable[[Any, int, int], list[Any]]:
    """Return the `take` of a feed with the first row of each batch last. A roll of the batch (KTO's) is as it was."""

    def turned(feed: Any, update: int, size: int) -> list[Any]:
        first, *others = take(feed, update, size)
        return [*others, first]

    return turned
