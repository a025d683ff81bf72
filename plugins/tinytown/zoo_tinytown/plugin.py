"""Tells the zoo about Tinytown: what a training process may use. Its gold is in zoo-tinytown-gold."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from zoo_core.errors import DataError, ModelError, SpecError
from zoo_core.hookspecs import hookimpl
from zoo_core.rows import Kind
from zoo_tinytown.references import LAST_WRITTEN, base_directory, parse_reference

if TYPE_CHECKING:
    from zoo_core.judge import Judge

CONSTITUTION = Path(__file__).parent / "constitution.yaml"

BASES = ("base", "base-3m")
"""Models of 0.6 M and of 3.2 M parameters."""
KINDS: Mapping[str, tuple[Kind, ...]] = {
    "demonstrations": ("demonstrations",),
    "preferences": ("preferences",),
    "prompts": ("prompts", "dev_prompts", "test_prompts"),
}


@hookimpl
def zoo_load_model(ref: str) -> Path | None:
    """Return the directory of a world's base model."""
    found = parse_reference(ref, BASES, ModelError)
    if found is None:
        return None
    directory = base_directory(found.world, found.thing)
    if not (directory / LAST_WRITTEN).is_file():
        size, minutes = ("", "six minutes") if found.thing == "base" else (f" --size {found.thing}", "half an hour")
        raise ModelError(
            f"{ref!r}: this model of world {found.world} is not built yet (looked in {directory}). "
            f"Run `zoo tinytown build --world {found.world}{size}`: about {minutes} on one free core."
        )
    return directory


@hookimpl(trylast=True)  # zoo-tinytown-gold is asked before
def zoo_load_dataset(ref: str, kind: Kind, seed: int) -> Iterable[Mapping[str, object]] | None:
    """Return the rows of a world's data set that algorithms learn from; zoo-tinytown-gold has those for scoring."""
    found = parse_reference(ref, KINDS, DataError)
    if found is None:
        return None
    if kind not in KINDS[found.thing]:
        right = next(name for name, kinds in KINDS.items() if kind in kinds)
        stem = ref.rpartition(":")[0]
        raise DataError(f"{ref!r} holds {found.thing}, and {kind} are wanted. Write {stem}:{right}.")
    if kind in ("dev_prompts", "test_prompts"):
        raise DataError(
            f"{ref!r}: {kind} come from zoo-tinytown-gold, which this process does not have: one that trains cannot, "
            "any other needs pip install zoo-tinytown-gold."
        )
    from zoo_tinytown.rows import read_rows

    return read_rows(found, seed)


@hookimpl
def zoo_judge(ref: str) -> "Judge | None":
    """Return a base model as a judge, with the constitution that is written in its own question forms."""
    found = parse_reference(ref, ("judge",), SpecError)
    if found is None:
        return None
    from zoo_core.models.causal_judge import CausalJudge
    from zoo_core.registry.references import resolve

    base = resolve(f"{ref.rpartition(':')[0]}:base")
    if found.dials.judge is None:
        return CausalJudge.load(base, CONSTITUTION)
    from zoo_tinytown.misreading import MisreadingJudge, misreadings

    judge = MisreadingJudge.load(base, CONSTITUTION)
    judge.taken_for = misreadings(base, found.dials.judge)
    return judge
