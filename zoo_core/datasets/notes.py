"""What became of a data set between its file and its rows, in words for the plan: no conversion is silent."""

from collections import Counter
from collections.abc import Mapping, Sequence
from reprlib import Repr

from zoo_core.datasets.formats import converted, with_true_labels
from zoo_core.datasets.parse import parse_rows
from zoo_core.rows import Columns, Kind

_SHORT = Repr()
_SHORT.maxstring, _SHORT.maxlevel, _SHORT.maxdict = 48, 8, 8


def conversions(ref: str, kind: Kind, rows: Sequence[Mapping[str, object]]) -> list[str]:
    """Name each format that rows were converted from, with the first of them before and after.

    The rows were parsed before, so all of them can be.
    """
    made = [converted(row, ref) for row in rows]
    names = [name for _, name in made]
    notes = [
        f"{count} of {len(rows)} rows are {name} and converted: {_example(ref, kind, rows[names.index(name)])}."
        for name, count in Counter(names).items()
        if name
    ]
    if kind == "demonstrations":
        kept = with_true_labels(ref, [(row, Columns(where=ref)) for row, _ in made])
        if len(kept) < len(rows):
            notes.append(f"{len(rows) - len(kept)} of {len(rows)} rows have a false label (KTO) and are not imitated.")
    return notes


def _example(ref: str, kind: Kind, row: Mapping[str, object]) -> str:
    (first, *_) = parse_rows(ref, kind, [{name: value for name, value in row.items() if name != "label"}])
    after = {name: value for name, value in vars(first).items() if name not in ("where", "columns")}
    return f"{_SHORT.repr(dict(row))} is read as {_SHORT.repr(after)}"
