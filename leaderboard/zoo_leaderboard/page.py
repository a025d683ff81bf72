"""A board as one self-contained HTML page that works from a file, loads nothing and runs only our own scripts.

The answer, the notes and the main table are HTML, so that they can be read without a script. The board is embedded as
JSON, which browsers do not run, and the script puts its texts on the page as text. The content security policy names
style and script by their hashes, so that nothing else can run. Charts are drawn by Observable Plot, which is inlined.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from itertools import groupby
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from zoo_leaderboard.columns import BLOCK_TITLES, HEADLINES, facts
from zoo_leaderboard.page_table import page_columns
from zoo_leaderboard.ranks import in_words
from zoo_leaderboard.render import csv, latex, markdown

_FOLDER = files("zoo_leaderboard") / "web"
_LIBRARIES = {"vendor/d3.min.js": "vendor/LICENSE-d3", "vendor/plot.umd.min.js": "vendor/LICENSE-plot"}
"""Each with its licence, which has to come with it."""
_SCRIPTS = ("dom.js", "state.js", "table.js", "charts.js", "budgets.js", "matrices.js", "pair.js", "runs.js", "main.js")
_ESCAPES = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}
_TURNS = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)])
"""Marks that turn the reading direction of what follows: they are left out."""

LONGEST = 2_000
"""Characters of a text that the page shows; the records have the whole."""
ROOM_FOR_ANSWERS = 1_000_000
"""Characters that all answers on the page may take together."""
SHORTEST = 200
"""Characters of an answer that are always shown."""


def page(board: Mapping[str, Any]) -> str:
    """Return the page of a board; the same bytes for the same board."""
    shown = _for_reading(board)
    copies = {"Markdown": markdown(shown), "CSV": csv(shown), "LaTeX": latex(shown)}
    style, chart_style = _read("page.css"), _read("vendor/plot.css").rstrip("\n")
    script = "\n".join(map(_read, _SCRIPTS))
    libraries = [f"/*\n{_read(licence)}*/\n{_read(name)}" for name, licence in _LIBRARIES.items()]
    # What is marked safe is our own files, libraries, and JSON without any sign that could end its element.
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return template.from_string(_read("page.html")).render(
        board=shown,
        facts=facts(shown),
        headline=HEADLINES[board["headline"]],
        columns=page_columns(shown),
        blocks=[
            (BLOCK_TITLES.get(status), list(rows))
            for status, rows in groupby(shown["rows"], key=lambda row: row["status"])
        ],
        made_with=version("zoo-leaderboard"),
        style=Markup(style),
        styles=f"{_source(style)}' '{_source(chart_style)}",
        scripts="' '".join(map(_source, (*libraries, script))),
        libraries=[Markup(library) for library in libraries],
        script=Markup(script),
        data=Markup(dumps(shown).translate(_ESCAPES)),
        copies=Markup(dumps(copies).translate(_ESCAPES)),
    )


def dumps(board: Mapping[str, Any], indent: int | None = None) -> str:
    """Return a board as JSON with sorted keys; numbers that JSON does not have become null."""
    return json.dumps(_finite(board), sort_keys=True, allow_nan=False, ensure_ascii=False, indent=indent)


def _for_reading(board: Mapping[str, Any]) -> dict[str, Any]:
    """Return the board with pairs in words, and with every text cut to what a reader may want to see of it."""
    answers = sum(len(row["samples"]) for row in board["rows"])
    longest = max(SHORTEST, min(LONGEST, ROOM_FOR_ANSWERS // (2 * answers or 1)))
    pairs = [{**pair, "words": in_words(pair)} for pair in board["pairs"]]
    shown = _cut({**board, "pairs": pairs, "rows": [{**row, "samples": []} for row in board["rows"]]}, LONGEST)
    for row, whole in zip(shown["rows"], board["rows"], strict=True):
        row["samples"] = _cut(whole["samples"], longest)
    return dict(shown)


def _cut(value: Any, longest: int) -> Any:
    if isinstance(value, str):
        over, text = len(value) - longest, value[:longest].translate(_TURNS)
        return text if over <= 0 else f"{text} … ({over} more characters)"
    if isinstance(value, Mapping):
        return {_cut(str(key), longest): _cut(part, longest) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cut(part, longest) for part in value]
    return value


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not abs(value) < float("inf") else value


@cache
def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _source(text: str) -> str:
    """Return the content security policy's name of an inline element with this text."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
