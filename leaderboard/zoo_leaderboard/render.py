"""A board as a terminal table, as Markdown, as CSV and as LaTeX."""

import csv as csv_format
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table

from zoo_leaderboard.budgets import fraction
from zoo_leaderboard.columns import (
    DISPENSABLE,
    HEADLINES,
    IN_COSTS,
    NONE,
    Column,
    columns,
    facts,
    interval,
    number,
    plain,
    scientific,
)
from zoo_leaderboard.schema import BEST_OF
from zoo_leaderboard.terminal import fitted

_MARKS = re.compile(r"([\\`*|~\[\]])")


def table(board: Mapping[str, Any], width: int | None = None) -> Table:
    """Return the board as a terminal table, blocks apart, at most `width` wide (None: as the terminal is).

    All columns take 120 characters. In fewer, the least telling are left out and named under the table, so
    that no number is ever cut. The board's notes are for the caller to print.
    """
    return fitted(
        columns(board),
        [list(rows) for _, rows in groupby(board["rows"], key=lambda row: row["status"])],
        Console().width if width is None else width,
        title=f"{plain(board['name'])} · {facts(board)}",
        dispensable=DISPENSABLE,
        instead="see leaderboard.md",
    )


def markdown(board: Mapping[str, Any]) -> str:
    """Return the board as GitHub Markdown: notes, ranks, tasks, costs, separated pairs and failures."""
    chosen = [column for column in columns(board) if column.title not in IN_COSTS]
    sections = [
        f"# {escape(board['name'])}",
        escape(facts(board)),
        "\n\n".join(map(escape, board["answer"])),
        "\n".join(f"> **Note.** {escape(note)}  " for note in board["conditional_notes"]),
        grid([column.title for column in chosen], ([c.cell(row) for c in chosen] for row in board["rows"])),
        _budgets(board),
        _tasks(board),
        _costs(board),
        _pairs(board),
        _failures(board),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def escape(text: object) -> str:
    """Return text that Markdown shows as it is: no markup, no HTML, one line."""
    escaped = _MARKS.sub(r"\\\1", plain(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def grid(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; its cells are escaped."""
    lines = [titles, ["---"] * len(titles), *([escape(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def budgets_table(board: Mapping[str, Any], width: int) -> Table:
    """Return the headline of each algorithm at each share of the budget, at most `width` wide.

    For a board with rows at several shares: `board["budgets"]` is not None.
    """
    chosen = _by_share(board["budgets"])
    titles = [column.title for column in chosen[1:]]
    return fitted(
        chosen,
        [board["budgets"]["curves"]],
        width,
        dispensable=titles,
        instead="see leaderboard.md",
        turn=True,
    )


def budgets_heading(board: Mapping[str, Any]) -> str:
    """Return what stands above that table."""
    return f"{HEADLINES[board['headline']]} by share of the budget"


def _by_share(found: Mapping[str, Any]) -> list[Column]:
    shares = sorted({point["share"] for curve in found["curves"] for point in curve["points"]})
    return [
        Column("Row", lambda curve: plain(curve["row"]), left=True),
        *(Column(fraction(share), partial(_at_share, share)) for share in shares),
    ]


def _at_share(share: float | int, curve: Mapping[str, Any]) -> str:
    return next((interval(point["headline"]) for point in curve["points"] if point["share"] == share), NONE)


def _budgets(board: Mapping[str, Any]) -> str:
    found = board["budgets"]
    if found is None:
        return ""
    chosen = _by_share(found)
    parts = [
        f"## {budgets_heading(board)}",
        grid([column.title for column in chosen], ([c.cell(curve) for c in chosen] for curve in found["curves"])),
    ]
    if found["crossings"]:
        titles = ["Passes", "Is passed", "At FLOPs", "95 % interval", "Draws that cross", "A sampled token costs"]
        parts += ["### Crossings", grid(titles, map(_crossing_cells, found["crossings"]))]
    return "\n\n".join(part for part in parts if part)


def _crossing_cells(one: Mapping[str, Any]) -> list[str]:
    ends, draws = [one["low"], one["high"]], one["draws_with_crossing"]
    return [
        one["below"],
        one["above"],
        scientific(one["flops"]),
        NONE if None in ends else f"[{scientific(ends[0])}, {scientific(ends[1])}]",
        NONE if draws is None else f"{draws:.0%}",
        f"{one['token_price']} times its FLOPs",
    ]


def _tasks(board: Mapping[str, Any]) -> str:
    names = sorted({name for row in board["rows"] for name in row["tasks"]})
    if not names:
        return ""
    titles = ["Row", *(title for name in names for title in (escape(name), "Δ start"))]
    return "## Tasks\n\n" + grid(titles, (_task_cells(row, names) for row in board["rows"]))


def _task_cells(row: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    cells = [row["row"]]
    for name in names:
        task = row["tasks"].get(name)
        cells += [interval(task), number(task["delta_start"]["mean"], signed=True)] if task else [NONE, NONE]
    return cells


def _costs(board: Mapping[str, Any]) -> str:
    titles = ["Row", "FLOPs", "Stages", "Updates", "Tokens sampled", "Judge calls", "Labels", "Seconds"]
    titles += ["Models", "MB", "FLOPs/answer", "Answers to break even"]
    return "## Costs\n\n" + grid(titles, (_cost_cells(row, board) for row in board["rows"]))


def _cost_cells(row: Mapping[str, Any], board: Mapping[str, Any]) -> list[str]:
    shares = [stage["share"] for stage in row["stages"] if stage["share"] is not None]
    labels = ", ".join(f"{count:g} {name}" for name, count in sorted(row["labels"].items()) if count)
    memory = row["peak_memory_bytes"]
    return [
        row["row"],
        scientific(row["flops_used"]),
        f"{sum(shares):.0%}" if shares else NONE,
        *(number(row[name], digits=0) for name in ("updates", "generated_tokens", "judge_calls")),
        labels or NONE,
        number(row["wall_seconds"], digits=0),
        number(row["models_resident"], digits=1),
        NONE if memory is None else number(memory / 1e6, digits=0),
        scientific(row["flops_per_query"]["mean"]),
        scientific(break_even(row, board)),
    ]


def break_even(row: Mapping[str, Any], board: Mapping[str, Any]) -> float | None:
    """Return after how many answers a trained row has cost less than each best-of-n row that answers dearer.

    None if there is no such row. Both pay for training, the reward model of best-of-n included, and for answers.
    """
    ended = (other for other in board["rows"] if other["seeds_ok"] and other["flops_used"] is not None)
    others = [other for other in ended if other["row"].startswith(BEST_OF)]
    if row["kind"] == "reference" or None in (row["flops_per_query"]["mean"], row["flops_used"]):
        return None
    saved = {other["row"]: other["flops_per_query"]["mean"] - row["flops_per_query"]["mean"] for other in others}
    more = {other["row"]: row["flops_used"] - other["flops_used"] for other in others}
    return max((max(0.0, more[name] / saving) for name, saving in saved.items() if saving > 0), default=None)


def _pairs(board: Mapping[str, Any]) -> str:
    separated = [pair for pair in board["pairs"] if pair["separated"]]
    if not separated:
        return ""
    rows = ([p["a"], p["b"], interval(p | {"mean": p["difference"]}), f"{p['p_adjusted']:.2g}"] for p in separated)
    return "## Separated pairs\n\n" + grid(["Above", "Below", "Difference", "p (corrected)"], rows)


def _failures(board: Mapping[str, Any]) -> str:
    rows = [[row["row"], error["seed"], error["error"]] for row in board["rows"] for error in row["errors"]]
    return "## Failures\n\n" + grid(["Row", "Seed", "Error"], rows) if rows else ""


_LATEX = {sign: rf"\{sign}" for sign in "&%$#_{}"}
_LATEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX |= {
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    "Δ": r"$\Delta$",
    "·": r"$\cdot$",
}
IN_LATEX = ("Rank", "Row", "Gold", "KL", "Len", "Δ tasks", "Used", "Seeds")
"""Titles of columns of the LaTeX table, beside the headline: what a page of a paper has room for."""


def latex(board: Mapping[str, Any]) -> str:
    """Return the main table as LaTeX (package booktabs), blocks apart, with the board's notes under it."""
    chosen = [one for one in columns(board) if one.title in IN_LATEX or one.title in HEADLINES.values()]
    blocks = [list(rows) for _, rows in groupby(board["rows"], key=lambda row: row["status"])]
    lines = [
        f"% {plain(board['name'])}: {facts(board)}",
        rf"\begin{{tabular}}{{{''.join('l' if one.left else 'r' for one in chosen)}}}",
        r"\toprule",
        _latex_line(one.title for one in chosen),
    ]
    for block in blocks:
        lines += [r"\midrule", *(_latex_line(one.cell(row) for one in chosen) for row in block)]
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [f"% {plain(note)}" for note in board["conditional_notes"]]
    return "\n".join(lines) + "\n"


def _latex_line(cells: Iterable[str]) -> str:
    return " & ".join("".join(_LATEX.get(sign, sign) for sign in plain(cell)) for cell in cells) + r" \\"


def csv(board: Mapping[str, Any]) -> str:
    """Return the board as CSV: one line a row, numbers in full; a ' before what a spreadsheet would run."""
    rows = [dict(_flat(row)) for row in board["rows"]]
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = io.StringIO()
    writer = csv_format.writer(lines)  # ends lines by \r\n: with any other end, a lone \r would not be quoted
    writer.writerow([_harmless(name) for name in names])
    writer.writerows([_harmless(row.get(name)) for name in names] for row in rows)
    return lines.getvalue()


_LEAVE_OUT = ("samples", "by_seed", "curve", "by_temperature")
_QUANTITY = {"mean", "low", "high", "n"}


def _flat(row: Mapping[str, Any]) -> Iterable[tuple[str, object]]:
    """Yield a row's values by column name, most telling first; nested names are joined by dots."""
    first = ("rank_low", "rank_high", "row", "status", "headline")
    for name in (*first, *sorted(row.keys() - set(first) - set(_LEAVE_OUT))):
        yield from _cells(name, row[name])


def _cells(name: str, value: object) -> Iterable[tuple[str, object]]:
    if isinstance(value, Mapping):
        for key in ("mean", "low", "high", "n") if value.keys() >= _QUANTITY else sorted(value):
            yield from _cells(name if key == "mean" else f"{name}.{key}", value[key])
        if "delta_start" in value:
            yield from _cells(f"{name}.delta_start", value["delta_start"])
    elif isinstance(value, list):
        yield name, "; ".join(_words(part) for part in value)
    else:
        yield name, value


def _words(part: object) -> str:
    if isinstance(part, Mapping):
        return " ".join(f"{key}={value}" for key, value in sorted(part.items()))
    return "" if part is None else str(part)


def _harmless(value: object) -> object:
    """Return a cell that a spreadsheet takes as text or number, never as a formula."""
    if value is None or isinstance(value, (int, float)):
        return value
    text = str(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
