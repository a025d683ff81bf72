"""The main table of the page: its columns, what they sort by, and the bars of ranks and intervals."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from zoo_leaderboard.columns import HEADLINES, NONE, number, plain, rank, scientific, settings, used

Row = Mapping[str, Any]

BAR = 120
"""Width of a bar, in pixels."""
WIDEST = (-1.0, 2.0)
"""Headlines beyond which no bar goes: two seeds can span anything."""


@dataclass(frozen=True)
class PageColumn:
    """One column: its text, what it sorts by, and what it means."""

    title: str
    text: Callable[[Row], str]
    value: Callable[[Row], float | str | None]
    """What rows are sorted by; None is last either way."""
    means: str = ""
    first: str = "descending"
    """The order after the first click."""
    kind: str = "number"
    """How the template draws it: number, text, name (with the row's flags below it), rank or interval."""
    on_phones: bool = False
    bar: Callable[[Row], "Bar | None"] = lambda row: None


@dataclass(frozen=True)
class Bar:
    """A line from `low` to `high` with a dot at `at` and a mark at `zero`, all in pixels; a part may be missing."""

    low: float
    high: float
    at: float | None = None
    zero: float | None = None


def page_columns(board: Mapping[str, Any]) -> list[PageColumn]:
    """Return the columns of the page that have a value in any row."""
    rows, headline = board["rows"], HEADLINES[board["headline"]]
    sft = plain(board["sft_row"] or "the row that spends all on the start's recipe")
    columns = [
        PageColumn(
            "Rank", rank, _rank_value, "A range: 1 + the rows separated above, to all but those separated below.",
            "ascending", "rank", on_phones=True, bar=partial(_rank_bar, board),
        ),
        PageColumn("Algorithm", _name, _name, first="ascending", kind="name", on_phones=True),
        PageColumn(
            headline, lambda row: number(row["headline"]["mean"]), _mean("headline"), _HEADLINES[board["headline"]],
            on_phones=True,
        ),
        PageColumn(
            "95 % interval", _interval, lambda row: row["headline"]["low"], "t-interval over seeds.", kind="interval",
            on_phones=True, bar=partial(_interval_bar, _span(rows)),
        ),
        _score("Gold", "gold", "The hidden reward on test prompts: never given to an algorithm."),
        _score("Δ start", "gold_delta_start", "Gold minus that of the checkpoint that all start from.", signed=True),
        _score("Δ sft", "gold_delta_sft", f"Gold minus that of {sft}.", signed=True),
        _score("Δ equal length", "gain_at_equal_length", "Δ start where both answers have as many words.", signed=True),
        _score("Proxy", "proxy", "The reward that is learned from, in deviations of the start's samples.", signed=True),
        _score("KL", "kl_start", "Divergence from the start, nats a response.", 1),
        _score("Wins", "win_start", "Share of test prompts answered better than by the start; ties count half."),
        _score("Length", "length", "Tokens of an answer.", 0),
        _score("Δ tasks", "capability_delta_start", "Mean of lm-eval tasks, chance at 0, minus start's.", signed=True),
        PageColumn(
            "FLOPs an answer", lambda row: scientific(row["flops_per_query"]["mean"]), _mean("flops_per_query"),
            "What one answer costs; of best-of-n all its samples and their scores.",
        ),
        PageColumn(
            "Models", lambda row: number(row["models_resident"], 1), lambda row: row["models_resident"],
            "Parameters in memory while training, in policies.",
        ),
        PageColumn("MB", _megabytes, lambda row: row["peak_memory_bytes"], "Peak memory of training, without imports."),
        PageColumn(
            "Seconds", lambda row: number(row["wall_seconds"], 0), lambda row: row["wall_seconds"],
            "Of training, stages included.",
        ),
        PageColumn("Used", used, _used_share, "Share of the budget."),
        PageColumn(
            "Settings", settings, lambda row: row["tuning"],
            "Where they come from; of tuned ones, how many points of the search ended above sft.", "ascending", "text",
        ),
        PageColumn("Seeds", lambda row: f"{row['seeds_ok']}/{row['seeds_total']}", lambda row: row["seeds_ok"]),
    ]  # fmt: skip
    return [column for column in columns if any(column.value(row) is not None for row in rows)]


_HEADLINES = {
    "headroom": "(gold − gold of start) / (best possible gold − gold of start): 0 is the checkpoint that everyone "
    "starts from, 1 the best possible answer.",
    "win_start": "Share of test prompts answered better than by the checkpoint that everyone starts from; ties half.",
    None: "",
}


def _score(title: str, name: str, means: str, digits: int = 2, *, signed: bool = False) -> PageColumn:
    return PageColumn(title, lambda row: number(row[name]["mean"], digits, signed=signed), _mean(name), means)


def _mean(name: str) -> Callable[[Row], float | None]:
    return lambda row: row[name]["mean"]


def _rank_value(row: Row) -> float | None:
    return None if row["rank_low"] is None else row["rank_low"] + row["rank_high"] / 1000


def _megabytes(row: Row) -> str:
    return NONE if row["peak_memory_bytes"] is None else number(row["peak_memory_bytes"] / 1e6, 0)


def _used_share(row: Row) -> float | None:
    if row["flops_used"] is None or not row["flops_budget"] or row["kind"] == "reference":
        return None
    return float(row["flops_used"] / row["flops_budget"])


def _interval(row: Row) -> str:
    low, high = row["headline"]["low"], row["headline"]["high"]
    return NONE if low is None else f"{number(low)} to {number(high)}"


def _span(rows: list[Row]) -> tuple[float, float]:
    """Return the headlines at both ends of every bar: one scale for all rows, so that they compare by eye."""
    ends = [row["headline"][key] for row in rows for key in ("mean", "low", "high")]
    known = [end for end in ends if end is not None]
    return max(WIDEST[0], min(0.0, *known, 0.0)), min(WIDEST[1], max(0.0, *known, 0.0)) or 1.0


def _interval_bar(span: tuple[float, float], row: Row) -> Bar | None:
    mean, low, high = (row["headline"][key] for key in ("mean", "low", "high"))
    if mean is None:
        return None
    low, high = (mean, mean) if low is None else (low, high)
    return Bar(_place(low, span), _place(high, span), _place(mean, span), _place(0.0, span))


def _place(value: float, span: tuple[float, float]) -> float:
    inside = min(max(value, span[0]), span[1])
    return round(4 + (BAR - 8) * (inside - span[0]) / (span[1] - span[0]), 1)


def _rank_bar(board: Mapping[str, Any], row: Row) -> Bar | None:
    """Return the range of ranks among all rows of the row's block."""
    if row["rank_low"] is None:
        return None
    block = sum(one["status"] == row["status"] and one["rank_low"] is not None for one in board["rows"])
    step = (BAR / 2) / block
    return Bar(round((row["rank_low"] - 1) * step, 1), round(row["rank_high"] * step, 1))


def _name(row: Row) -> str:
    return plain(row["row"])
