"""Rows whose settings are chosen by trials, and the trials are charged: what is tuned pays for it out of its budget.

Of what its stages leave of the budget, one half is shared by the trials, each a whole run of its own whose learning
rate ends where its share ends. The other half is for the run with the settings of the best trial.
"""

from collections.abc import Sequence

from zoo_core.errors import PluginError, SpecError
from zoo_core.records import Algorithm, Space
from zoo_core.registry.plugins import plugins
from zoo_core.registry.spaces import space_of
from zoo_harness.spec.beside import beside
from zoo_harness.spec.schema import Entry

FINAL_PART = 0.5
"""What the run with the chosen settings has of the budget that the stages leave."""


def part_of_a_trial(entry: Entry) -> float:
    """Return what one trial of a row has of the budget that the stages leave; 0 where it has no trials."""
    return (1 - FINAL_PART) / entry.trials if entry.trials else 0.0


def runs_of(entry: Entry) -> list[tuple[int, float]]:
    """Return how many runs a row makes, and the part of the budget beside its stages that each of them has."""
    return [(entry.trials, part_of_a_trial(entry)), (1, FINAL_PART)] if entry.trials else [(1, 1.0)]


def called(row: str) -> str:
    """Return what the board calls the tuned row beside another: `dpo-tuned`."""
    return f"{row}-tuned"


def of(algorithms: Sequence[Entry], trials: int, every: Sequence[Entry]) -> list[Entry]:
    """Return the rows to add: each of `algorithms` that has a search space and is not tuned itself, tuned.

    `every` holds all rows of the bench. `SpecError` where no algorithm has a space, and where the name of a row to add
    is taken or too long.
    """
    if not trials:
        return []
    able = [entry for entry in algorithms if entry.budget_share == 1 and not entry.trials and _has_space(entry)]
    if not able:
        names = ", ".join(dict.fromkeys(entry.name for entry in algorithms)) or "none"
        raise SpecError(
            f"trials: no ranked row can be tuned: no algorithm of theirs ({names}) declares a search space. Its plugin "
            "writes one as `SEARCH` into the configuration class; `zoo plugins show dpo` shows one."
        )
    taken = {entry.row for entry in every}
    return [beside(entry, called(entry.row), taken, "trials", "tuned", trials=trials) for entry in able]


def space(algorithm: Algorithm) -> Space:
    """Return what trials of an algorithm search; `SpecError` if it declares nothing."""
    found = space_of(algorithm.load_config(), algorithm.name)
    if not found:
        raise SpecError(
            f"algorithms: {algorithm.name!r} declares no search space (`SEARCH` in its configuration class); leave its "
            "`trials` out."
        )
    return found


def _has_space(entry: Entry) -> bool:
    algorithm = plugins().algorithms.get(entry.name)
    try:
        return algorithm is not None and bool(space_of(algorithm.load_config(), algorithm.name))
    except PluginError:
        return False  # the row itself is left out with that reason
