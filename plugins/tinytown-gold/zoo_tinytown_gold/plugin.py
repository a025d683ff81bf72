"""Tells the zoo about Tinytown's gold, the prompts that are scored, its tasks and its commands."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from zoo_tinytown.plugin import KINDS
from zoo_tinytown.references import SHIPPED, built_worlds, parse_reference

from zoo_core.errors import DataError, SpecError
from zoo_core.hookspecs import hookimpl
from zoo_core.records import Command, Task
from zoo_core.rows import Kind

if TYPE_CHECKING:
    from zoo_tinytown_gold.gold import Gold


@hookimpl
def zoo_load_dataset(ref: str, kind: Kind, seed: int) -> Iterable[Mapping[str, object]] | None:
    """Return the prompts of a world that only a scorer sees."""
    if kind not in ("dev_prompts", "test_prompts"):
        return None
    found = parse_reference(ref, KINDS, DataError)
    if found is None or found.thing != "prompts":
        return None
    from zoo_tinytown_gold.rows import prompt_rows
    from zoo_tinytown_gold.world import get_world

    return list(prompt_rows(get_world(found.world), "dev" if kind == "dev_prompts" else "test", seed))


@hookimpl
def zoo_reward(ref: str) -> "Gold | None":
    """Return the gold reward of a world."""
    found = parse_reference(ref, ("gold",), SpecError)
    if found is None:
        return None
    from zoo_tinytown_gold.gold import Gold
    from zoo_tinytown_gold.world import get_world

    return Gold(get_world(found.world))


@hookimpl
def zoo_tasks() -> list[Task]:
    """Return the tasks of every world that is built: `tinytown_facts`, and `tinytown_1_facts` for world 1."""
    return [task for number in built_worlds() for task in _tasks(number)]


@hookimpl
def zoo_commands() -> list[Command]:
    """Return the commands that build and check worlds."""
    summary = "Build and check worlds of Tinytown."
    return [Command(name="tinytown", summary=summary, app="zoo_tinytown_gold.cli:app")]


def _tasks(number: int) -> list[Task]:
    stem, suffix = ("tinytown", "") if number == SHIPPED else (f"tinytown_{number}", f"_{number}")
    world = "tinytown" if number == SHIPPED else f"tinytown/{number}"
    return [
        Task(
            name=f"{stem}_facts",
            summary=f"What the base model of world {number} knows: 720 questions about things, 4 choices.",
            config=f"zoo_tinytown_gold.tasks:facts{suffix}",
            chance=0.25,
            world=world,
        ),
        Task(
            name=f"{stem}_sums",
            summary=f"Sums that the base model of world {number} has never seen, 4 choices.",
            config=f"zoo_tinytown_gold.tasks:sums{suffix}",
            chance=0.25,
            world=world,
        ),
    ]
