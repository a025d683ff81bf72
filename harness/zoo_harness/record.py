"""Records: what one row did with one seed, complete enough to recompute the board from."""

from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TypedDict, cast

from zoo_leaderboard.load import file_name
from zoo_leaderboard.schema import SCHEMA_VERSION, Bench, Code, Kind, Planned, Record, Searched, Trial, Trials

from zoo_core.accounting.report import LedgerReport
from zoo_core.records import Algorithm, Defaults
from zoo_core.registry.plugins import plugins
from zoo_core.registry.spaces import defaults_of
from zoo_harness.checked import Checked
from zoo_harness.job import Job, Outcome, read_json
from zoo_harness.jobs.choice import ledgers_of, tried_of
from zoo_harness.payloads import Training
from zoo_harness.planning.identity import OWN, commit_of, files_named, package_hash, root_of
from zoo_harness.planning.pipeline import LeftOut, Row
from zoo_harness.planning.plan import Plan
from zoo_harness.results import Begun, Trained, Tried, scored, staged, trained
from zoo_harness.spec.settings import all_settings

TUNED_HERE = "tuned here"
"""Where the settings of a row come from that trials chose, and paid for out of its budget."""
LABELLED = ("demonstrations", "preferences")


def record_of(
    bench: Bench,
    score: Job,
    training: Job | None,
    stages: Sequence[Job],
    row: Row | None,
    algorithm: Algorithm | None,
    outcome: Outcome,
    checked: Checked | None = None,
) -> Record:
    """Put a record together from the results of its jobs. `row` is None for a row that is only scored.

    `checked` is what the check of the algorithm's code found, if it was checked here.
    """
    entry = row.entry if row else None
    owner = plugins().owner("zoo_algorithms", algorithm.name) if algorithm else None
    found, own = scored(score), trained(training)
    begun = cast(Begun | None, read_json(training.directory / "begun.json") if training else None)
    of_stages = [(job.title, one["ledger"]) for job in stages if (one := staged(job))]
    tried = _tried(training, own)
    runs = [*([own["ledger"]] if own else []), *ledgers_of(tried)]
    ledgers = [*runs, *(ledger for _, ledger in of_stages)]
    by_cell: Counter[str] = Counter()
    for ledger in ledgers:
        by_cell.update(ledger["flops_by_role_phase"])
    observed = own["observer_failures"] if own else []
    tuning = _tuning(row)
    settings = entry.settings if entry else {}
    if own and "choice" in own:
        settings = own["choice"]["tried"][own["choice"]["chosen"]]["settings"]
    return {
        "schema_version": SCHEMA_VERSION,
        "bench_id": bench["bench_id"],
        "cell_id": training.identity if training else score.identity,
        "row": score.row,
        "kind": "algorithm" if row and not row.reference else "reference",
        "reward": row.reward if row else None,
        "control": entry.control if entry else None,
        "stops_early": algorithm.stops_early if row and algorithm else "",
        "algorithm": algorithm.name if algorithm else None,
        "plugin": owner.distribution if owner else None,
        "plugin_version": owner.version if owner else None,
        "paper": algorithm.paper if algorithm else None,
        "settings": settings,
        "all_settings": all_settings(algorithm, settings) if algorithm and entry and own else {},
        "files": files_named(settings),
        "tuning": tuning["tuning"],
        "searched": tuning["searched"],
        "checked": {"held": checked["held"], "tried": checked["tried"]} if checked else None,
        "trials": _trials(tried, own) if tried else None,
        "learns_from": list(algorithm.learns_from) if algorithm else [],
        "starts_from": algorithm.starts_from if algorithm else "base",
        "seed": score.seed,
        "attempt": begun["attempts"] if begun else 1,
        "status": "ok" if outcome.status == "ok" else "failed",
        "error": outcome.error or None,
        "budget_share": entry.budget_share if entry else 1.0,
        "at_share_of": row.at_share_of if row else None,
        "flops_budget": bench["flops_budget"] * entry.budget_share if entry else None,
        "scores": found["scores"] if found else None,
        "items": found["items"] if found else [],
        "curve": found["curve"] if found else [],
        "weights_sha256": found["weights_sha256"] if found else None,
        "environment": {**(found["environment"] if found else bench.get("environment", {}))},
        "stages": [
            {"name": name.removeprefix("stage "), "flops": one["flops"], "seconds": one["wall_seconds"]}
            for name, one in of_stages
        ],
        "flops_used": sum(by_cell.values()),
        "flops_by_role_phase": dict(sorted(by_cell.items())),
        "audit_ratio": _audit_ratio(ledgers),
        "labels": {kind: len({row for one in ledgers for row in one["rows"].get(kind, [])}) for kind in LABELLED},
        "updates": sum(one["updates"] for one in runs),
        "judge_calls": sum(one["judge_calls"] for one in ledgers),
        "generated_tokens": sum(one["generated_tokens"] for one in ledgers),
        "reward_queries": sum(one["reward_queries"] for one in ledgers),
        "optimizer_steps": sum(one["optimizer_steps"] for one in ledgers),
        "wall_seconds": sum(one["wall_seconds"] for one in ledgers),
        # Memory is the row's own: its stages are alike for all rows.
        "peak_memory_bytes": max((one["peak_memory_bytes"] for one in runs or ledgers[:1]), default=None),
        "models_resident": max((one["models_resident"] for one in runs or ledgers[:1]), default=None),
        "parameter_bytes": max((one["parameter_bytes"] for one in runs or ledgers[:1]), default=None),
        "training_bytes": max((one["training_bytes"] for one in runs or ledgers[:1]), default=None),
        "flags": sorted({*(flag for one in ledgers for flag in one["flags"]), *observed}),
    }


def record_left_out(bench: Bench, left_out: LeftOut, seed: int) -> Record:
    """The record of a row that could not even be measured: it failed, and why."""
    name, outcome = left_out.name, Outcome(status="failed", error=left_out.reason)
    nothing = Job(kind="score", title=name, row=name, seed=seed, directory=Path("left-out"), identity="left out")
    record = record_of(bench, nothing, None, [], None, left_out.algorithm, outcome)
    return {
        **record,
        "kind": "reference" if left_out.reference else "algorithm",
        "algorithm": left_out.algorithm.name if left_out.algorithm else left_out.entry.name,
        "settings": left_out.entry.settings,
        "budget_share": left_out.entry.budget_share,
        "at_share_of": left_out.at_share_of,
        "flops_budget": bench["flops_budget"] * left_out.entry.budget_share,
    }


def bench_of(plan: Plan, command: str) -> Bench:
    """Return the plan as it is kept beside the records; `command` is what the user typed."""
    spec = plan.spec
    return {
        "schema_version": SCHEMA_VERSION,
        "bench_id": plan.identity,
        "world_id": plan.world_identity,
        "name": spec.name,
        "preset": spec.preset,
        "spec": spec.model_dump(mode="json", exclude={"folder"}),
        "budget_words": spec.budget,
        "flops_budget": plan.budget,
        "seeds": spec.seeds,
        "base": plan.probe["base"],
        "tasks": spec.tasks or [],
        "algorithms": [
            *(_planned(row, row.algorithm.name) for row in plan.pipeline.rows),
            *(_planned(one, one.entry.name) for one in plan.pipeline.left_out),
        ],
        "data": plan.probe["data"],
        "hashes": plan.probe["hashes"],
        "code": code_now(),
        "commit": commit_of(__name__),
        "environment": plan.probe["environment"],
        "command": command,
    }


def code_now() -> dict[str, Code]:
    """Version and hash of the code of our own distributions and of every plugin that is loaded."""
    packages = {one.distribution: root_of(one.module) for one in plugins().plugins if one.status == "ok"}
    packages |= {package.replace("_", "-"): package for package in OWN}
    return {name: {"version": version(name), "sha256": package_hash(one)} for name, one in sorted(packages.items())}


def _planned(one: Row | LeftOut, algorithm: str) -> Planned:
    entry = one.entry
    kind: Kind = "reference" if one.reference else "algorithm"
    found: Planned = {"row": entry.row, "algorithm": algorithm, "settings": entry.settings, "kind": kind}
    if entry.budget_share != 1:
        found |= {"budget_share": entry.budget_share, "at_share_of": one.at_share_of}
    if entry.trials:
        found["trials"] = entry.trials
    return found


def record_file(output: Path, row: str, seed: int) -> Path:
    """Return the file of a record."""
    return output / "records" / file_name(row, seed)


def _tuning(row: Row | None) -> "_Tuning":
    """Where the settings of a row come from: whoever gives one sets them by hand, whatever the defaults are."""
    if row is None:
        return {"tuning": None, "searched": None}
    if row.entry.trials:
        return {"tuning": TUNED_HERE, "searched": None}
    defaults = defaults_of(row.algorithm.load_config()) if not row.entry.settings else Defaults()
    if defaults.beat_sft is None:
        return {"tuning": defaults.source, "searched": None}
    return {"tuning": defaults.source, "searched": {"points": defaults.points, "beat_sft": defaults.beat_sft}}


def _tried(training: Job | None, own: Trained | None) -> list[Tried]:
    """What trials of a row were worth when its run began; of one that could not begin, as far as they ended."""
    if own is not None:
        return own["choice"]["tried"] if "choice" in own else []
    return [tried_of(one) for one in Training.of(training.payload).candidates] if training else []


def _trials(tried: Sequence[Tried], own: Trained | None) -> Trials:
    choice = own["choice"] if own and "choice" in own else None
    found: list[Trial] = [
        {
            "settings": one["settings"],
            "gold": one["gold"],
            "proxy": one["proxy"],
            "flops": one["ledger"]["flops"] if one["ledger"] else None,
            "error": one["error"],
        }
        for one in tried
    ]
    chosen, by_proxy = (choice["chosen"], choice["by_proxy"]) if choice else (None, None)
    return {"tried": found, "chosen": chosen, "by_proxy": by_proxy}


class _Tuning(TypedDict):
    tuning: str | None
    searched: Searched | None


def _audit_ratio(ledgers: Sequence[LedgerReport]) -> float | None:
    """Return the ratio furthest from 1 among the row and its stages."""
    ratios = [ledger["audit_ratio"] for ledger in ledgers if ledger["audit_ratio"] is not None]
    return max(ratios, key=lambda ratio: abs(ratio - 1)) if ratios else None
