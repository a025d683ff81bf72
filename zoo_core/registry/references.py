"""Resolve references of users to data sets, models, rewards and judges. No other module asks plugins for these."""

from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from zoo_core.datasets.files import LocatedRow, split_note
from zoo_core.datasets.notes import conversions
from zoo_core.datasets.parse import parse_rows
from zoo_core.datasets.splits import in_drawn_order, in_split
from zoo_core.errors import DataError, ModelError, SpecError
from zoo_core.registry.plugins import GOLD_GROUP, plugins
from zoo_core.rows import DataRow, Kind

if TYPE_CHECKING:
    from zoo_core.judge import Judge
    from zoo_core.reward import Reward


def load_rows(ref: str, kind: Kind, seed: int, limit: int | None = None) -> list[DataRow]:
    """Return the rows of a data set for a cell's seed; `DataError` names the row that is wrong.

    `limit` keeps the first rows in an order that the seed draws, the same for every algorithm.
    """
    rows = _rows(ref, kind, seed)
    if rows is None and kind in ("dev_prompts", "test_prompts"):
        split = "dev" if kind == "dev_prompts" else "test"
        return in_drawn_order(in_split(load_all(ref, "prompts", seed), split, seed, ref), seed)
    parsed = parse_rows(ref, kind, _found(ref, rows))
    if _is_of_a_user(rows):
        parsed = in_split(parsed, "train", seed, ref)
    return in_drawn_order(parsed, seed)[:limit]


def load_all(ref: str, kind: Kind, seed: int) -> list[DataRow]:
    """Return all rows of a data set, without a split, in its own order."""
    return parse_rows(ref, kind, _found(ref, _rows(ref, kind, seed)))


def notes_on(ref: str, kind: Kind, seed: int) -> list[str]:
    """Say which split of a data set is read, and from which formats its rows are converted."""
    rows = _found(ref, _rows(ref, kind, seed))
    split = split_note(ref) if _is_of_a_user(rows) else None
    return [*([split] if split else []), *conversions(ref, kind, rows)]


def load_unseen(ref: str, seed: int, limit: int | None) -> list[DataRow]:
    """Return held-out pairs of a seed: the test split of a file, or the rows of a world after the limit."""
    rows = _rows(ref, "preferences", seed)
    if _is_of_a_user(rows):
        return in_split(parse_rows(ref, "preferences", _found(ref, rows)), "test", seed, ref)
    return [] if limit is None else in_drawn_order(parse_rows(ref, "preferences", _found(ref, rows)), seed)[limit:]


def _rows(ref: str, kind: Kind, seed: int) -> list[Mapping[str, object]] | None:
    rows = plugins().first("zoo_load_dataset", ref=ref, kind=kind, seed=seed)
    return None if rows is None else list(rows)


def _found(ref: str, rows: list[Mapping[str, object]] | None) -> list[Mapping[str, object]]:
    if rows is None:
        raise DataError(
            f"{ref!r} is neither a file, a saved data set, a hub id nor a data set of an installed plugin. "
            "`zoo plugins` lists the plugins."
        )
    return rows


def _is_of_a_user(rows: list[Mapping[str, object]] | None) -> bool:
    """Return whether rows come from a user's file, which the core splits. A world splits its rows itself."""
    return bool(rows) and all(isinstance(row, LocatedRow) for row in rows or ())


def load_reward(ref: str) -> "Reward":
    """Return the reward that `ref` names: a plugin's, a scorer (directory or hub id), or module:function."""
    reward: Reward = plugins().first("zoo_reward", ref=ref)
    return reward


def is_gold(ref: str) -> bool:
    """Return whether a reference names a reward that is kept from training: one of a plugin of the group `zoo.gold`."""
    names = {entry.name for entry in entry_points(group=GOLD_GROUP)}
    return plugins().first("zoo_reward", among=names, ref=ref) is not None


def load_judge(ref: str) -> "Judge":
    """Return the judge that `ref` names: a plugin's, or a causal language model (directory or hub id)."""
    judge: Judge | None = plugins().first("zoo_judge", ref=ref)
    if judge is None:
        raise SpecError(f"{ref!r} is no judge: not a model's directory, a hub id or a judge of an installed plugin.")
    return judge


def resolve(ref: str) -> Path:
    """Return the local directory of the model that `ref` names; `ModelError` if there is none."""
    from zoo_core.models.directories import check_directory

    path = plugins().first("zoo_load_model", ref=ref)
    if path is None:
        raise ModelError(
            f"{ref!r} is neither a local directory, a hub id (org/name) nor a model of an installed plugin. "
            "`zoo plugins` lists the plugins."
        )
    check_directory(Path(path))
    return Path(path)
