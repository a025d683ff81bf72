"""Feeds hand out batches of a data set: a pure function of seed, stage and update, the same for every algorithm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Generic, TypeVar

import torch

from zoo_core.accounting.ledger import Ledger
from zoo_core.datasets.encoding import Encoder
from zoo_core.errors import PluginError
from zoo_core.rollout import Prompts, Responses
from zoo_core.rows import DataRow, Demonstration, Preference, Prompt

R = TypeVar("R", Prompt, Demonstration, Preference)
Feed = TypeVar("Feed", bound="_Feed")  # type: ignore[type-arg]  # of whatever rows
ROW_TYPES: dict[str, type[DataRow]] = {"prompts": Prompt, "demonstrations": Demonstration, "preferences": Preference}
"""The type of rows of each data set, by its name."""


@dataclass(frozen=True)
class _Feed(Generic[R]):
    rows: Sequence[R]
    encoder: Encoder
    ledger: Ledger
    kind: str
    seed: int

    def __len__(self) -> int:
        """Return the number of rows in the data set."""
        return len(self.rows)

    def epoch(self, size: int) -> int:
        """Return the number of updates that one pass over the data takes, with `size` rows per update."""
        return -(-len(self.rows) // size)

    def all(self) -> list[R]:
        """Return all rows, in the order that the seed draws, and count all of them as used."""
        self.ledger.see(self.kind, (row.where for row in self.rows))
        return list(self.rows)

    def only(self: Feed, rows: Sequence[R]) -> Feed:
        """Return a feed of these rows only, for example of those that a selection chose."""
        return replace(self, rows=rows)

    def drawn(self, count: int, generator: torch.Generator) -> list[R]:
        """Return `count` different rows drawn at random. None of the others counts as used."""
        order = torch.randperm(len(self.rows), generator=generator, device=generator.device)
        return [self.rows[row] for row in order[:count].tolist()]

    def take(self, update: int, size: int) -> list[R]:
        """Return the rows of an update, from shuffled passes over the data, and count them as used."""
        taken = []
        for draw in range(update * size, (update + 1) * size):
            epoch, place = divmod(draw, len(self.rows))
            taken.append(self.rows[_order(self.seed, epoch, len(self.rows))[place]])
        self.ledger.see(self.kind, (row.where for row in taken))
        return taken


class PromptFeed(_Feed[Prompt]):
    """A feed of prompts without answers."""

    def batch(self, update: int, size: int) -> Prompts:
        """Return the `size` prompts of an update."""
        return self.encoder.prompts(self.take(update, size))


class DemonstrationFeed(_Feed[Demonstration]):
    """A feed of prompts with an answer to imitate."""

    def batch(self, update: int, size: int) -> Responses:
        """Return the `size` demonstrations of an update."""
        rows = self.take(update, size)
        return self.encoder.responses([(row.prompt, row.completion) for row in rows])


class PreferenceFeed(_Feed[Preference]):
    """A feed of prompts with a chosen and a rejected answer."""

    def batch(self, update: int, size: int) -> Responses:
        """Return the `size` pairs of an update: all chosen responses, then the rejected ones in the same order."""
        rows = self.take(update, size)
        chosen = [(row.prompt, row.chosen) for row in rows]
        return self.encoder.responses([*chosen, *((row.prompt, row.rejected) for row in rows)])


def check_rows(rows: Mapping[str, Sequence[DataRow]]) -> None:
    """Raise `PluginError` for a data set with a row of another type than its name says."""
    for kind, some in rows.items():
        wrong = next((row for row in some if not isinstance(row, ROW_TYPES[kind])), None)
        if wrong is not None:
            raise PluginError(f"{kind}: {wrong.where} is a {type(wrong).__name__}, not a {ROW_TYPES[kind].__name__}.")


@lru_cache(maxsize=64)
def _order(seed: int, epoch: int, size: int) -> list[int]:
    generator = torch.Generator().manual_seed((seed + 0x9E3779B97F4A7C15 * epoch) % 2**63)
    return torch.randperm(size, generator=generator).tolist()
