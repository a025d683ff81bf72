"""Rows that are trained once more under another share of the bench's budget: who wins at which budget.

Each is a run of its own, whose learning rate ends where its own budget ends, and each is charged for all its stages.
"""

from collections.abc import Sequence

from zoo_core.errors import SpecError
from zoo_harness.spec.beside import beside
from zoo_harness.spec.schema import Entry


def called(row: str, share: float) -> str:
    """Return what the board calls a row at another share of the budget: `dpo-0.25x`."""
    return f"{row}-{share:g}x"


def belongs_to(entry: Entry, entries: Sequence[Entry]) -> str | None:
    """Name the row that is the same but for its share of the budget, which is 1; None if there is none."""
    if entry.budget_share == 1:
        return None
    alike = [one.row for one in entries if one == entry.model_copy(update={"row": one.row, "budget_share": 1.0})]
    by_name = (row for row in alike if called(row, entry.budget_share) == entry.row)
    return next(by_name, alike[0] if alike else None)


def of(algorithms: Sequence[Entry], shares: Sequence[float], every: Sequence[Entry]) -> list[Entry]:
    """Return the rows to add: each of `algorithms` whose own share is 1, once more for each other share.

    `every` holds all rows of the bench; one of them that is such a row already is not added again. `SpecError` where
    two of them are one row at one share, and where the name of a row to add is taken or too long.
    """
    there: dict[tuple[str, str], str] = {}
    for entry in every:
        if owner := belongs_to(entry, every):
            known = there.setdefault((owner, f"{entry.budget_share:g}"), entry.row)
            if known != entry.row:
                raise SpecError(
                    f"algorithms: {known!r} and {entry.row!r} are both {owner!r} at {entry.budget_share:g} of the "
                    "budget; leave one of them out."
                )
    whole = (entry for entry in algorithms if entry.budget_share == 1)
    wanted = [(entry, share) for entry in whole for share in shares if share != 1]
    taken = {entry.row for entry in every}
    return [
        beside(entry, called(entry.row, share), taken, "budgets", f"at {share:g} of the budget", budget_share=share)
        for entry, share in wanted
        if (entry.row, f"{share:g}") not in there
    ]
