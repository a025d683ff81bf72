"""Tables of the `plan` and `eval` commands."""

from typing import Any

from rich.table import Table


def plan_table(figures: dict[str, Any]) -> Table:
    """FLOPs, updates, time, memory and disk of each row of a plan."""
    hours = figures["training_seconds_one_core"] / figures["workers"]
    title = (
        f"{figures['budget']:.3g} FLOPs a row, {figures['seeds']} seeds, base {figures['base']['ref']} "
        f"({figures['base']['parameters']:,} parameters); training takes about {hours / 60:.1f} minutes "
        f"with {figures['workers']} workers"
    )
    table = Table(title=title, title_justify="left")
    for name in ("row", "stages", "FLOPs/update", "updates", "minutes", "models", "memory MiB", "disk MiB"):
        table.add_column(name, justify="left" if name == "row" else "right")
    for row in figures["rows"]:
        table.add_row(
            row["row"],
            f"{row['stage_share']:.0%}",
            f"{row['flops_per_update']:.3g}",
            str(row["updates"]),
            f"{row['seconds'] / 60:.1f}",
            str(row["models_resident"]),
            f"{row['memory_bytes'] / 2**20:.0f}",
            f"{row['disk_bytes'] / 2**20:.0f}",
        )
    return table


def scores_table(scores: dict[str, Any]) -> Table:
    """Scores of one model."""
    table = Table("score", "value")
    for name, value in scores.items():
        if isinstance(value, (int, float)):
            table.add_row(name, f"{value:.4g}")
    for name, task in scores["tasks"].items():
        table.add_row(name, f"{task['score']:.4g} (chance {task['chance']}, n {task['n']})")
    return table
