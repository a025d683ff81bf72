"""The columns that a terminal and a Markdown page show, and how numbers are written in them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
"""One row of a board."""

NONE = "–"
"""What stands for a number that is not there."""

HEADLINES = {"headroom": "Headroom gained", "win_start": "Wins against start", None: "Headline"}
"""What the headline is called, by `board["headline"]`."""

BLOCK_TITLES = {
    "pays tax": "Pays tax: capability separated below start by more than 2 points; ranked by themselves",
    "unreliable": "Unreliable: too many failed seeds; the numbers are those of the seeds that survived",
    "unfinished": "Unfinished: cells are still missing",
    "failed": "Failed: every seed",
    "other budget": "At another share of the budget: not ranked",
    "reference": "Reference rows: not ranked",
}
"""What a page says above a block of rows, by their status."""

DISPENSABLE = ("Settings", "Len", "Wins", "Used", "Δ tasks", "Δ start", "Gold", "Seconds", "Proxy", "KL")
"""Titles of columns that a narrow terminal goes without, the first to go first."""

IN_COSTS = ("Seconds",)
"""Titles of columns that a page shows in its table of costs only."""

# Escape sequences, line breaks and marks that turn the reading direction: none of them is part of a name.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


@dataclass(frozen=True)
class Column:
    """One column: its title and the text that it shows for a row."""

    title: str
    cell: Callable[[Any], str]
    left: bool = False
    """Whether it is text, which may be folded; numbers stand on the right and are whole."""


def columns(board: Mapping[str, Any]) -> list[Column]:
    """Return the main columns: together at most 120 characters wide where long names are folded."""
    return [
        Column("Rank", rank),
        Column("Row", lambda row: plain(row["row"]), left=True),
        Column(HEADLINES[board["headline"]], lambda row: interval(row["headline"])),
        Column("Gold", lambda row: number(row["gold"]["mean"])),
        Column("Δ start", lambda row: number(row["gold_delta_start"]["mean"], signed=True)),
        Column("Proxy", lambda row: number(row["proxy"]["mean"], signed=True)),
        Column("KL", lambda row: number(row["kl_start"]["mean"], digits=1)),
        Column("Wins", lambda row: number(row["win_start"]["mean"])),
        Column("Len", lambda row: number(row["length"]["mean"], digits=0)),
        Column("Δ tasks", lambda row: number(row["capability_delta_start"]["mean"], signed=True)),
        Column("Used", used),
        Column("Seconds", lambda row: number(row["wall_seconds"], digits=0)),
        Column("Seeds", lambda row: f"{row['seeds_ok']}/{row['seeds_total']}"),
        Column("Settings", settings, left=True),
        Column("Notes", remarks, left=True),
    ]


def plain(text: object) -> str:
    """Return text on one line without control characters."""
    return _CONTROLS.sub(" ", str(text)).strip()


def number(value: float | int | None, digits: int = 2, *, signed: bool = False) -> str:
    """Return a number with a fixed count of decimals, or a dash; a rounded zero has no sign."""
    if value is None:
        return NONE
    rounded = round(value, digits) + 0.0
    return f"{rounded:{'+' if signed and rounded else ''}.{digits}f}"


def scientific(value: float | None) -> str:
    """Return a large number with three digits, or a dash."""
    return NONE if value is None else f"{value:.3g}"


def interval(quantity: Mapping[str, Any]) -> str:
    """Return "mean [low, high]", or the mean alone where there is no interval."""
    mean = number(quantity["mean"])
    return mean if quantity["low"] is None else f"{mean} [{number(quantity['low'])}, {number(quantity['high'])}]"


def rank(row: Row) -> str:
    """Return the rank range, one number where both ends agree."""
    low, high = row["rank_low"], row["rank_high"]
    if low is None:
        return NONE
    return str(low) if low == high else f"{low}–{high}"


def used(row: Row) -> str:
    """Return the share of the budget that was used; a dash where there was nothing to spend."""
    if row["flops_used"] is None or not row["flops_budget"] or row["kind"] == "reference":
        return NONE
    return f"{row['flops_used'] / row['flops_budget']:.0%}"


def settings(row: Row) -> str:
    """Return where a row's settings come from; of tuned ones, how many points of the search ended above sft."""
    found = row.get("searched")
    return plain(row["tuning"] or NONE) + (f" {found['beat_sft']}/{found['points']}" if found else "")


def remarks(row: Row) -> str:
    """Return status (unless all is well), flags, and how many laws of the suite hold for the algorithm."""
    status = [] if row["status"] == "ok" else [row["status"]]
    checked = row.get("checked")
    badge = [f"checked {checked['held']}/{checked['tried']}"] if checked else []
    return ", ".join(plain(remark) for remark in [*status, *row["flags"], *badge])


def facts(board: Mapping[str, Any]) -> str:
    """Return the line that says what was compared."""
    base, preset = board["base"], board["preset"]
    parts = [
        *([f"preset {preset}"] if preset else []),
        f"{board['seeds']} seed{'s' if board['seeds'] != 1 else ''}",
        f"{board['budget']:.3g} FLOPs a row and seed",
        f"base {base['ref']}" + (f" ({base['sha256'][:12]})" if base["sha256"] else ""),
    ]
    return plain(" · ".join(parts))
