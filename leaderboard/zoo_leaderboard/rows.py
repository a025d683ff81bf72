"""One row of the board out of the cells of its seeds."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from zoo_leaderboard.cells import Cell, score, start_of, task_score
from zoo_leaderboard.schema import Bench, Planned, Record
from zoo_leaderboard.scores import AVERAGED, SHARES
from zoo_leaderboard.slices import DIVERGENCES, curve_of, gain_at_equal_length, gold_at
from zoo_leaderboard.statistics import Number, Quantity, finite, share, summarize
from zoo_leaderboard.verdicts import flags, status

SAMPLES = 24
"""Answers kept for reading, of the first finished seed."""

_COSTS = (
    "flops_budget", "flops_used", "judge_calls", "generated_tokens", "reward_queries", "optimizer_steps",
    "updates", "wall_seconds",
)  # fmt: skip
_PEAKS = ("peak_memory_bytes", "models_resident", "parameter_bytes", "training_bytes")
_ABOUT = (
    "algorithm", "kind", "plugin", "plugin_version", "paper", "settings", "tuning", "learns_from",
    "starts_from", "reward", "stops_early",
)  # fmt: skip
_MAYBE: dict[str, Any] = {"searched": None, "control": None, "budget_share": 1.0, "at_share_of": None}
"""Keys that a record may lack, and what that means."""

Numbers = Mapping[str, Number | None]


def build_row(bench: Bench, cells: Sequence[Cell], starts: Mapping[tuple[str, int], Cell]) -> dict[str, Any]:
    """Return the row made of `cells` (by seed, at least one); `starts` holds the cells of all rows by label and seed.

    Scores are means over finished seeds with t-intervals; costs are means (peaks: the
    highest) over finished seeds, or over the failed ones where none finished.
    """
    finished = [cell for cell in cells if cell.record["status"] == "ok"]
    records = [cell.record for cell in cells]
    measured = [cell.record for cell in finished or cells]
    tax = summarize(cell.capability_delta_start for cell in finished)
    first: Mapping[str, Any] = records[0]
    row = {name: first[name] for name in _ABOUT} | {name: first.get(name, other) for name, other in _MAYBE.items()}
    row |= {"settings": _shared([record["settings"] for record in records])}
    if trained := [known for record in records if (known := record.get("all_settings"))]:
        row["all_settings"] = _shared(trained)
    if trials := _count_trials(records):  # the bytes of boards without such rows stay as they are
        row["trials"] = trials
    if checked := first.get("checked"):
        row["checked"] = checked
    row |= _scores(finished, starts) | _costs(measured)
    row |= {
        "row": records[0]["row"],
        "seeds_ok": len(finished),
        "seeds_total": max(bench["seeds"], len(cells)),
        "rank_low": None,
        "rank_high": None,
        "seeds": [record["seed"] for record in records],
        "temperature": [score(record, "temperature") for record in records],
        "weights_sha256": [record["weights_sha256"] for record in records],
        "by_seed": [_seed(cell) for cell in cells],
        "flags": flags(cells, starts),
        "errors": [
            {"seed": record["seed"], "error": record["error"] or "no reason given"}
            for record in records
            if record["status"] == "failed"
        ],
        "samples": [dict(item) for item in finished[0].record["items"][:SAMPLES]] if finished else [],
        "capability": summarize(cell.capability for cell in finished),
        "capability_delta_start": tax,
    }
    return row | {"takes_reward": _takes_reward(row), "status": status(row, len(cells))}


def planned_row(bench: Bench, plan: Planned) -> dict[str, Any]:
    """Return the row of an algorithm of the plan of which no cell has ended."""
    nothing: dict[str, Any] = dict.fromkeys(_ABOUT) | _MAYBE
    empty = _scores([], {}) | _costs([])
    empty |= {name: summarize([]) for name in ("capability", "capability_delta_start")}
    lists = ("seeds", "temperature", "weights_sha256", "by_seed", "flags", "errors", "samples")
    row = nothing | empty | {name: [] for name in lists} | dict(plan)
    row |= {"learns_from": [], "seeds_ok": 0, "seeds_total": bench["seeds"]}
    return row | {"takes_reward": None, "rank_low": None, "rank_high": None, "status": "unfinished"}


def _takes_reward(row: Mapping[str, Any]) -> bool | None:
    """Whether a row learns from a reward, or pays for the model of one; None before it finished a seed."""
    pays = any(part.startswith("reward/") for part in row["flops_by_role_phase"])
    return pays or "reward" in row["learns_from"] if row["seeds_ok"] else None


def _scores(cells: Sequence[Cell], starts: Mapping[tuple[str, int], Cell]) -> dict[str, Any]:
    found: dict[str, Any] = {name: summarize(score(cell.record, name) for cell in cells) for name in AVERAGED}
    for name in ("headline", "gold_delta_start", "gold_delta_sft"):
        found[name] = summarize(getattr(cell, name) for cell in cells)
    scores = [cell.record["scores"] for cell in cells if cell.record["scores"]]
    tasks = sorted({name for one in scores for name in one["tasks"]})
    for name in SHARES:
        found[name] = share(found[name])
    found |= _slices(cells, starts)
    found["tasks"] = {name: _task(name, cells, starts) for name in tasks}
    found["parts"] = _by_key([one["parts"] for one in scores], _of_part)
    found["by_temperature"] = {
        tau: _by_key([cast(Numbers, one["by_temperature"].get(tau, {})) for one in scores], summarize)
        for tau in sorted({tau for one in scores for tau in one["by_temperature"]})
    }
    return found | {"curve": _curve([cell.record for cell in cells])}


def _slices(cells: Sequence[Cell], starts: Mapping[tuple[str, int], Cell]) -> dict[str, Any]:
    """Gold at equal divergence, and what is gained at equal length."""
    records = [cell.record for cell in cells]
    of_start = [starts.get((start_of(record), record["seed"])) for record in records]
    both = [(record, start.record if start else None) for record, start in zip(records, of_start, strict=True)]
    found = {f"{kl:g}": summarize(gold_at(kl, *pair) for pair in both) for kl in DIVERGENCES}
    return {
        "gold_at_kl": {kl: quantity for kl, quantity in found.items() if quantity["n"]},
        "gain_at_equal_length": summarize(gain_at_equal_length(*pair) for pair in both),
    }


def _task(name: str, cells: Sequence[Cell], starts: Mapping[tuple[str, int], Cell]) -> dict[str, Any]:
    deltas = [cell.task_delta(name, starts.get((start_of(cell.record), cell.record["seed"]))) for cell in cells]
    tasks = [cell.record["scores"]["tasks"].get(name) for cell in cells if cell.record["scores"]]
    chances = [task["chance"] for task in tasks if task]
    found = summarize(task_score(cell.record, name) for cell in cells)
    return {
        **(share(found) if all(task.get("is_share", True) for task in tasks if task) else found),
        "delta_start": summarize(deltas),
        "chance": chances[0] if chances else None,
    }


def _curve(records: Sequence[Record]) -> list[dict[str, Any]]:
    points: list[Mapping[str, Any]] = [point for record in records for point in curve_of(record)]
    names = ("flops", "gold", "proxy", "kl_start", "length")
    return [
        {"fraction": fraction}
        | {name: mean(point[name] for point in points if point["fraction"] == fraction) for name in names}
        for fraction in sorted({point["fraction"] for point in points})
    ]


def _seed(cell: Cell) -> dict[str, Any]:
    record: Mapping[str, Any] = cell.record
    row = {name: record[name] for name in ("seed", "status", "attempt", "cell_id")}
    row |= {name: score(cell.record, name) for name in AVERAGED}
    names = ("headline", "gold_delta_start", "gold_delta_sft", "capability_delta_start")
    row |= {name: getattr(cell, name) for name in names}
    # Of a tuned row each seed has settings of its own.
    return row | ({name: record[name] for name in ("settings", "trials")} if record.get("trials") else {})


def _shared(settings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the settings that all seeds have."""
    return {name: value for name, value in settings[0].items() if all(one.get(name) == value for one in settings)}


def _count_trials(records: Sequence[Record]) -> int:
    """Return how many trials chose the settings of a row, for each seed; 0 where none did."""
    return max((len(trials["tried"]) for record in records if (trials := record.get("trials"))), default=0)


def _costs(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {name: mean(record[name] for record in records) for name in _COSTS}
    for name in _PEAKS:
        peaks = [finite(record[name]) for record in records]
        found[name] = max((peak for peak in peaks if peak is not None), default=None)
    audits = [ratio for record in records if (ratio := finite(record["audit_ratio"])) is not None]
    found["audit_ratio"] = max(audits, key=lambda ratio: abs(ratio - 1), default=None)
    found["labels"] = _by_key([record["labels"] for record in records], mean)
    found["flops_by_role_phase"] = _by_key([record["flops_by_role_phase"] for record in records], mean_with_zeros)
    return found | {"stages": _stages(records, found["flops_budget"])}


def _stages(records: Sequence[Mapping[str, Any]], budget: float | None) -> list[dict[str, Any]]:
    """Return each stage with its mean cost and its share of the budget, in the order in which they ran."""
    stages = [stage for record in records for stage in record["stages"]]
    rows = []
    for name in dict.fromkeys(stage["name"] for stage in stages):
        flops = mean(stage["flops"] for stage in stages if stage["name"] == name)
        seconds = mean(stage["seconds"] for stage in stages if stage["name"] == name)
        share = flops / budget if flops is not None and budget else None
        rows.append({"name": name, "flops": flops, "seconds": seconds, "share": share})
    return rows


def _by_key(mappings: Sequence[Numbers], combine: Callable[[Iterable[Number | None]], Any]) -> dict[str, Any]:
    """Combine the values of several mappings key by key; a key that one of them lacks is None there."""
    keys = sorted({key for one in mappings for key in one})
    return {key: combine([one.get(key) for one in mappings]) for key in keys}


def _of_part(values: Iterable[Number | None]) -> Quantity:
    """Return the mean of a part of gold; where no seed leaves 0 to 1, its interval does not either."""
    known = list(values)
    found = summarize(known)
    inside = all(0 <= value <= 1 for value in map(finite, known) if value is not None)
    return share(found) if inside else found


def mean(values: Iterable[Number | None]) -> float | None:
    """Return the mean of the values that are there, or None."""
    return summarize(values)["mean"]


def mean_with_zeros(values: Iterable[Number | None]) -> float | None:
    """Return the mean over all seeds of a cost that a seed without the key did not have."""
    return mean([value or 0.0 for value in values])
