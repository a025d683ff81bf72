"""The figures of the gates of several worlds, kept in a file, and as a table for a README."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from zoo_core.errors import DataError
from zoo_core.storage.atomic import write_json
from zoo_tinytown_gold.gates import Gate

BEGIN, END = "<!-- gates: zoo tinytown table -->", "<!-- end of gates -->"


class Measured(TypedDict):
    """One gate of one world, as it is kept."""

    name: str
    figure: float
    must_be: str
    passes: bool


def add(path: Path, world: int, gates: Sequence[Gate]) -> None:
    """Write the gates of a world into a file, in place of what it had of that world."""
    known: dict[str, list[Measured]] = json.loads(path.read_text()) if path.exists() else {}
    known[str(world)] = [
        {"name": gate.name, "figure": round(gate.figure, 4), "must_be": gate.must_be, "passes": gate.passes}
        for gate in gates
    ]
    write_json(path, known)


def with_table(text: str, path: Path) -> str:
    """Return a Markdown text with the figures of all worlds of a file between its marks; `DataError` without marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise DataError(f"the README has no {BEGIN!r} and {END!r} to write the table between. Add both lines.")
    return f"{before}{BEGIN}\n\n{_table(json.loads(path.read_text()))}\n\n{END}{after}"


def _table(known: dict[str, list[Measured]]) -> str:
    """A row for each gate; a figure outside of its bounds is bold."""
    known = dict(sorted(known.items(), key=lambda item: int(item[0])))
    names = list(dict.fromkeys(gate["name"] for gates in known.values() for gate in gates))
    by_world = {world: {gate["name"]: gate for gate in gates} for world, gates in known.items()}
    rows = [
        f"| figure | {' | '.join(f'world {world}' for world in known)} | must be |",
        f"|---|{'---|' * len(known)}---|",
    ]
    for name in names:
        found = [gates.get(name) for gates in by_world.values()]
        bounds = list(dict.fromkeys(gate["must_be"] for gate in found if gate))
        rows.append(f"| {name} | {' | '.join(map(_cell, found))} | {', '.join(bounds)} |")
    return "\n".join(rows)


def _cell(gate: Measured | None) -> str:
    if gate is None:
        return "–"
    figure = f"{gate['figure']:.2f}" if gate["figure"] < 1000 else f"{gate['figure']:,.0f}"
    return figure if gate["passes"] else f"**{figure}**"
