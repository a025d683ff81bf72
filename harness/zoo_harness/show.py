"""Tables of the commands `plan` and `eval`."""

from rich.table import Table
from zoo_leaderboard.schema import Scores

from zoo_harness.planning.estimate import Figures
from zoo_harness.planning.predict import Predicted


def plan_table(figures: Figures, workers: int) -> Table:
    """FLOPs, updates, time, memory and disk of each row of a plan."""
    hours = figures["training_seconds_one_core"] / workers
    title = (
        f"{figures['budget']:.3g} FLOPs a row, {figures['seeds']} seeds, base {figures['base']['ref']} "
        f"({figures['base']['parameters']:,} parameters); training takes about {hours / 60:.1f} minutes "
        f"with {workers} workers"
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


def scores_table(scores: Scores) -> Table:
    """Scores of one model."""
    table = Table("score", "value")
    for name, value in scores.items():
        if isinstance(value, (int, float)):
            table.add_row(name, f"{value:.4g}")
    for name, task in scores["tasks"].items():
        table.add_row(name, f"{task['score']:.4g} (chance {task['chance']}, n {task['n']})")
    return table


def prediction_table(found: Predicted) -> Table:
    """Return what was predicted for another base, or other devices."""
    target, machine = found["target"], found["machine"]
    hours, cost = _shown(found["training_hours"], "{:,.1f} h"), _shown(found["cost"], "{:,.0f}")
    title = (
        f"{found['budget']:.3g} FLOPs a row, {found['seeds']} seeds, base {target['ref']} ({target['parameters']:,} "
        f"parameters), from updates of {found['measured_on']['ref']}; all training on {machine['devices']} devices: "
        f"{hours}, cost {cost}"
    )
    table = Table(title=title, title_justify="left")
    for name in ("row", "stages", "FLOPs/update", "updates", "hours", "weights GB", "training GB", "activations GB"):
        table.add_column(name, justify="left" if name == "row" else "right")
    for name in ("cache GB", "FSDP2 GB/device", "DDP GB/device"):
        table.add_column(name, justify="right")
    for row in found["rows"]:
        memory = row["memory"]
        training = memory["weights"] + memory["gradients"] + memory["states"] + memory["undo"]
        working = (memory["activations"], memory["cache"], memory["fsdp2_device"], memory["ddp_device"])
        held = [memory["weights"], training, *working]
        table.add_row(
            row["row"],
            f"{row['stage_share']:.0%}",
            f"{row['flops_per_update']:.3g}",
            str(row["updates"]),
            _shown(None if row["seconds"] is None else row["seconds"] / 3600, "{:,.1f}"),
            *(f"{amount / 1e9:,.3g}" for amount in held),
        )
    return table


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
