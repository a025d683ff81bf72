"""Tells the zoo about Tinytown. Everything heavy is imported where it is used."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from zoo_core.errors import DataError, ModelError, SpecError
from zoo_core.hookspecs import hookimpl
from zoo_core.records import Command, Task
from zoo_core.rows import Kind
from zoo_tinytown.references import LAST_WRITTEN, SHIPPED, base_directory, built_worlds, parse_reference

if TYPE_CHECKING:
    from zoo_core.models.causal_judge import CausalJudge
    from zoo_tinytown.gold import Gold

CONSTITUTION = Path(__file__).parent / "constitution.yaml"

KINDS = {
    "demonstrations": ("demonstrations",),
    "preferences": ("preferences",),
    "prompts": ("prompts", "dev_prompts", "test_prompts"),
}


@hookimpl
def zoo_load_model(ref: str) -> Path | None:
    """Return the directory of a world's base model."""
    found = parse_reference(ref, ("base",), ModelError)
    if found is None:
        return None
    directory = base_directory(found[0])
    if not (directory / LAST_WRITTEN).is_file():
        raise ModelError(
            f"{ref!r}: the base model of world {found[0]} is not built yet (looked in {directory}). "
            f"Run `zoo tinytown build --world {found[0]}`: about ten minutes on one free core."
        )
    return directory


@hookimpl
def zoo_load_dataset(ref: str, kind: Kind, seed: int) -> Iterable[Mapping[str, object]] | None:
    """Return rows of a world's data set."""
    found = parse_reference(ref, KINDS, DataError)
    if found is None:
        return None
    number, thing = found
    if kind not in KINDS[thing]:
        right = next(name for name, kinds in KINDS.items() if kind in kinds)
        stem = ref.rpartition(":")[0]
        raise DataError(f"{ref!r} holds {thing}, and {kind} are wanted. Write {stem}:{right}.")
    from zoo_tinytown.rows import demonstrations, preferences, prompt_rows
    from zoo_tinytown.world import get_world

    world = get_world(number)
    if thing == "demonstrations":
        return list(demonstrations(world, seed))
    if thing == "preferences":
        return list(preferences(world, seed))
    split = {"prompts": "train", "dev_prompts": "dev", "test_prompts": "test"}[kind]
    return list(prompt_rows(world, split, seed))  # type: ignore[arg-type]


@hookimpl
def zoo_reward(ref: str) -> "Gold | None":
    """Return the gold reward of a world."""
    found = parse_reference(ref, ("gold",), SpecError)
    if found is None:
        return None
    from zoo_tinytown.gold import Gold
    from zoo_tinytown.world import get_world

    return Gold(get_world(found[0]))


@hookimpl
def zoo_judge(ref: str) -> "CausalJudge | None":
    """Return a base model as a judge, with the constitution that is written in its own question forms."""
    found = parse_reference(ref, ("judge",), SpecError)
    if found is None:
        return None
    from zoo_core.models.causal_judge import CausalJudge
    from zoo_core.registry.references import resolve

    return CausalJudge.load(resolve(f"{ref.rpartition(':')[0]}:base"), CONSTITUTION)


@hookimpl
def zoo_tasks() -> list[Task]:
    """Return the tasks of every world that is built: `tinytown_facts`, and `tinytown_1_facts` for world 1."""
    return [task for number in built_worlds() for task in _tasks(number)]


@hookimpl
def zoo_commands() -> list[Command]:
    """Return the commands that build and check worlds."""
    summary = "Build and check worlds of Tinytown."
    return [Command(name="tinytown", summary=summary, app="zoo_tinytown.cli:app")]


def _tasks(number: int) -> list[Task]:
    stem, suffix = ("tinytown", "") if number == SHIPPED else (f"tinytown_{number}", f"_{number}")
    world = "tinytown" if number == SHIPPED else f"tinytown/{number}"
    return [
        Task(
            name=f"{stem}_facts",
            summary=f"What the base model of world {number} knows: 720 questions about things, 4 choices.",
            config=f"zoo_tinytown.tasks:facts{suffix}",
            chance=0.25,
            world=world,
        ),
        Task(
            name=f"{stem}_sums",
            summary=f"Sums that the base model of world {number} has never seen, 4 choices.",
            config=f"zoo_tinytown.tasks:sums{suffix}",
            chance=0.25,
            world=world,
        ),
    ]
