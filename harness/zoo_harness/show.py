"""Tables of the commands `plan`, `eval` and `plugins`, for a terminal of any width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from rich.table import Table
from rich.text import Text
from zoo_leaderboard.columns import Column
from zoo_leaderboard.scores import Scores
from zoo_leaderboard.terminal import fitted

from zoo_core.registry.plugin import Plugin
from zoo_harness.planning.estimate import Figures, RowFigures

if TYPE_CHECKING:  # a prediction imports torch, which takes seconds, and the other tables need none
    from zoo_harness.planning.predict import Predicted, PredictedRow

Purpose = Literal["weights", "gradients", "states", "undo", "activations", "cache", "fsdp2_device", "ddp_device"]
"""What memory is for: a key of `zoo_harness.planning.predict.Memory`."""

INSTEAD = "give a wider terminal or --json"
"""What shows the columns that a narrow terminal goes without."""

PLAN = (
    Column("row", lambda row: row["row"], left=True),
    Column("stages", lambda row: f"{row['stage_share']:.0%}"),
    Column("FLOPs/update", lambda row: f"{row['flops_per_update']:.3g}"),
    Column("updates", lambda row: str(row["updates"])),
    Column("minutes", lambda row: f"{row['seconds'] / 60:.1f}"),
    Column("models", lambda row: str(row["models_resident"])),
    Column("memory MiB", lambda row: f"{row['memory_bytes'] / 2**20:.0f}"),
    Column("disk MiB", lambda row: f"{row['disk_bytes'] / 2**20:.0f}"),
)
BUDGET = Column("budget", lambda row: f"{row['flops']:.3g}")
"""Of a plan with rows at several shares of the budget."""
PREDICTION = (
    *PLAN[:4],
    Column("hours", lambda row: _shown(None if row["seconds"] is None else row["seconds"] / 3600, "{:,.1f}")),
    Column("weights GB", lambda row: _gigabytes(row, "weights")),
    Column("training GB", lambda row: _gigabytes(row, "weights", "gradients", "states", "undo")),
    Column("activations GB", lambda row: _gigabytes(row, "activations")),
    Column("cache GB", lambda row: _gigabytes(row, "cache")),
    Column("FSDP2 GB/device", lambda row: _gigabytes(row, "fsdp2_device")),
    Column("DDP GB/device", lambda row: _gigabytes(row, "ddp_device")),
)
DISPENSABLE = (
    "models", "stages", "disk MiB", "cache GB", "activations GB", "FLOPs/update", "weights GB", "DDP GB/device",
    "training GB", "memory MiB", "updates",
)  # fmt: skip
"""Titles of columns that a narrow terminal goes without, the first to go first."""


def plan_table(figures: Figures, workers: int, room: int) -> Table:
    """FLOPs, updates, time, memory and disk of each row of a plan, at most `room` wide."""
    training, scoring = figures["training"], figures["scoring"]
    minutes = [price["seconds"] / workers / 60 for price in (training, scoring)]
    title = (
        f"{figures['budget']:.3g} FLOPs a row, {_seeds(figures['seeds'])}, base {figures['base']['ref']} "
        f"({figures['base']['parameters']:,} parameters). The bench takes about {sum(minutes):.1f} minutes with "
        f"{workers} worker{'s' if workers != 1 else ''}: training {minutes[0]:.1f} ({training['flops']:.2g} FLOPs), "
        f"scoring {minutes[1]:.1f} ({scoring['flops']:.2g} FLOPs)"
    )
    differ = any(row["flops"] != figures["budget"] for row in figures["rows"])
    columns = [*PLAN[:1], BUDGET, *PLAN[1:]] if differ else PLAN
    return _fitted(columns, figures["rows"], room, title)


def plugins_table(found: Sequence[Plugin]) -> Table:
    """Every installed plugin: what it provides, or why it is not loaded."""
    table = Table()
    for title in ("plugin", "distribution", "version", "status", "provides"):
        table.add_column(title, overflow="fold")
    for plugin in found:
        good = plugin.status == "ok"
        provided = ", ".join(plugin.provides) or ", ".join(plugin.hooks)
        what = "; ".join([provided, *plugin.notes]) if good else plugin.reason
        cells = (plugin.name, plugin.distribution, plugin.version, plugin.status, what)
        table.add_row(*(Text(cell) for cell in cells), style=None if good else "red")
    return table


def scores_table(scores: Scores, room: int) -> Table:
    """Scores of one model."""
    lines = [(name, f"{value:.4g}") for name, value in scores.items() if isinstance(value, (int, float))]
    for name, task in scores["tasks"].items():
        lines.append((name, f"{task['score']:.4g} (chance {task['chance']}, n {task['n']})"))
    chosen = [Column("score", lambda line: line[0], left=True), Column("value", lambda line: line[1], left=True)]
    return fitted(chosen, [lines], room, dispensable=(), instead=INSTEAD)


def prediction_table(found: Predicted, room: int) -> Table:
    """Return what was predicted for another base, or other devices, at most `room` wide."""
    target, devices = found["target"], found["machine"]["devices"]
    hours, cost = _shown(found["training_hours"], "{:,.1f} h"), _shown(found["cost"], "{:,.0f}")
    title = (
        f"{found['budget']:.3g} FLOPs a row, {_seeds(found['seeds'])}, base {target['ref']} "
        f"({target['parameters']:,} parameters), from updates of {found['measured_on']['ref']}; "
        f"all training on {devices} device{'s' if devices != 1 else ''}: {hours}, cost {cost}"
    )
    return _fitted(PREDICTION, found["rows"], room, title)


def notes_of(found: Predicted) -> list[str]:
    """What a reader should know about the figures: which flags tell more, and what they take for granted."""
    machine, notes = found["machine"], list(found["warnings"])
    if machine["flops_per_second"] is None:
        notes.append("hours: give --flops-per-second, what one device reaches (its peak times the share that is used).")
    elif machine["bytes_per_second"] is None:
        notes.append(
            "hours: sampling is taken to be as fast as training. One token at a time it is slower: give "
            "--bytes-per-second, how fast one device reads its memory."
        )
    if machine["price_per_hour"] is None:
        notes.append("cost: give --price-per-hour of one device.")
    notes.append(
        f"tokens are those of {found['measured_on']['ref']}: its tokenizer, and answers as long as that model writes."
    )
    return notes


def _shown(amount: float | None, form: str) -> str:
    return "-" if amount is None else form.format(amount)


def _seeds(count: int) -> str:
    return f"{count} seed{'s' if count != 1 else ''}"


def _gigabytes(row: PredictedRow, *purposes: Purpose) -> str:
    return f"{sum(row['memory'][purpose] for purpose in purposes) / 1e9:,.3g}"


def _fitted(
    columns: Sequence[Column], rows: Sequence[RowFigures] | Sequence[PredictedRow], room: int, title: str
) -> Table:
    return fitted(columns, [rows], room, title=title, dispensable=DISPENSABLE, instead=INSTEAD, turn=True)
