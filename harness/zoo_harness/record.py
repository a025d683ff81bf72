"""Records: what one row did with one seed, complete enough to recompute the board from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoo_leaderboard.schema import SCHEMA_VERSION

from zoo_core.records import Algorithm
from zoo_core.registry.plugins import plugins
from zoo_harness.job import Job, Outcome, read_json
from zoo_harness.planning.pipeline import Row
from zoo_harness.planning.plan import Plan

LABELLED = ("demonstrations", "preferences")
ADDED = ("judge_calls", "generated_tokens", "reward_queries", "optimizer_steps", "wall_seconds")
MOST = ("peak_memory_bytes", "models_resident", "parameter_bytes", "training_bytes")


def record_of(
    bench: dict[str, Any],
    score: Job,
    trained: Job | None,
    stages: Sequence[Job],
    row: Row | None,
    algorithm: Algorithm | None,
    outcome: Outcome,
) -> dict[str, Any]:
    """Put a record together from the results of its jobs. `row` is None for what is only scored."""
    entry = row.entry if row else None
    owner = plugins().owner("zoo_algorithms", algorithm.name) if algorithm else None
    scored = score.result() or {}
    record: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "bench_id": bench["bench_id"],
        "cell_id": trained.identity if trained else score.identity,
        "row": score.row,
        "kind": "algorithm" if row and not row.reference else "reference",
        "reward": row.reward if row else None,
        "stops_early": algorithm.stops_early if row and algorithm else "",
        "algorithm": algorithm.name if algorithm else None,
        "plugin": owner.distribution if owner else None,
        "plugin_version": owner.version if owner else None,
        "paper": algorithm.paper if algorithm else None,
        "settings": entry.settings if entry else {},
        "tuning": "hand-set" if entry and entry.settings else "default",
        "learns_from": list(algorithm.learns_from) if algorithm else [],
        "starts_from": algorithm.starts_from if algorithm else "base",
        "seed": score.seed,
        "attempt": (read_json(trained.directory / "begun.json") or {}).get("attempts", 1) if trained else 1,
        "status": "ok" if outcome.status == "ok" else "failed",
        "error": outcome.error or None,
        "flops_budget": bench["flops_budget"] if entry else None,
        "scores": scored.get("scores"),
        "items": scored.get("items", []),
        "curve": scored.get("curve", []),
        "weights_sha256": scored.get("weights_sha256"),
        "environment": scored.get("environment", bench["environment"]),
    }
    return record | _costs(trained, stages, record)


def _costs(trained: Job | None, stages: Sequence[Job], record: dict[str, Any]) -> dict[str, Any]:
    """Add up the row's own ledger and those of its stages, each once, at their measured cost."""
    own = (trained.result() if trained else None) or {}
    parts = [("", own.get("ledger"))] + [(job.title, (job.result() or {}).get("ledger")) for job in stages]
    ledgers = [(name, ledger) for name, ledger in parts if ledger]
    cells: dict[str, int] = {}
    rows: dict[str, set[str]] = {kind: set() for kind in LABELLED}
    for _, ledger in ledgers:
        for cell, flops in ledger["flops_by_role_phase"].items():
            cells[cell] = cells.get(cell, 0) + flops
        for kind in LABELLED:
            rows[kind].update(ledger["rows"].get(kind, []))
    used = sum(cells.values())
    costs: dict[str, Any] = {
        "stages": [
            {"name": name.removeprefix("stage "), "flops": one["flops"], "seconds": one["wall_seconds"]}
            for name, one in ledgers
            if name
        ],
        "flops_used": used,
        "flops_by_role_phase": dict(sorted(cells.items())),
        "audit_ratio": _audit_ratio([ledger for _, ledger in ledgers]),
        "labels": {kind: len(seen) for kind, seen in rows.items()},
        "updates": ledgers[0][1]["updates"] if own else 0,
        "flags": sorted(
            {flag for _, ledger in ledgers for flag in ledger["flags"]} | set(own.get("observer_failures", []))
        ),
    }
    for name in ADDED:
        costs[name] = sum(ledger[name] for _, ledger in ledgers)
    for name in MOST:  # of the row's own training: its stages are alike for all rows
        costs[name] = ledgers[0][1][name] if ledgers else None
    if own and record["status"] == "ok":
        left = record["flops_budget"] - used if record["flops_budget"] else 0
        dearest = (used - sum(stage["flops"] for stage in costs["stages"])) / max(1, costs["updates"])
        unspent = record["flops_budget"] and used < 0.95 * record["flops_budget"] and left > 1.5 * dearest
        if unspent and not record["stops_early"]:
            costs["flags"].append("budget under-used")
    return costs


def _audit_ratio(ledgers: Sequence[dict[str, Any]]) -> float | None:
    """The ratio furthest from 1 among the row and its stages."""
    ratios = [ledger["audit_ratio"] for ledger in ledgers if ledger["audit_ratio"] is not None]
    return max(ratios, key=lambda ratio: abs(ratio - 1)) if ratios else None


def record_file(output: Path, row: str, seed: int) -> Path:
    """Where a record stands."""
    return output / "records" / f"{row}-seed{seed}.json"


def bench_of(plan: Plan) -> dict[str, Any]:
    """The plan as it is kept beside the records."""
    spec = plan.spec
    return {
        "schema_version": SCHEMA_VERSION,
        "bench_id": plan.identity,
        "name": spec.name,
        "preset": spec.preset,
        "spec": spec.model_dump(mode="json", exclude={"folder"}),
        "budget_words": spec.budget,
        "flops_budget": plan.budget,
        "seeds": spec.seeds,
        "base": plan.probe["base"],
        "tasks": spec.tasks or [],
        "algorithms": [
            {
                "row": row.name,
                "algorithm": row.algorithm.name,
                "settings": row.entry.settings,
                "kind": "reference" if row.reference else "algorithm",
            }
            for row in plan.pipeline.rows
        ],
        "data": plan.probe["data"],
        "environment": plan.probe["environment"],
    }
