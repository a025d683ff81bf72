"""A row that the harness adds beside one of the spec: the same algorithm and settings, and one thing else."""

from collections.abc import Collection
from typing import Any

from zoo_core.errors import SpecError
from zoo_harness.spec.schema import ROW, Entry


def beside(entry: Entry, row: str, taken: Collection[str], key: str, what: str, **changes: Any) -> Entry:
    """Return the entry with these changes, under the name `row`.

    `taken` are the names of all rows of the bench. `SpecError` if it is one of them, or too long; the message begins
    with the key of the spec that asked for the row, and says what it is ("tuned").
    """
    if row in taken:
        raise SpecError(
            f"{key}: {entry.row!r} {what} is called {row!r}, and another row under `algorithms:` is called so; give "
            "that one `row: another-name`."
        )
    if not ROW.fullmatch(row):
        raise SpecError(f"{key}: the row name {row!r} is too long; give {entry.row!r} a shorter one (`row: ...`).")
    return entry.model_copy(update={"row": row, **changes})
