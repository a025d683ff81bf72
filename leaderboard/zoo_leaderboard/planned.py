"""What a bench set out to run, and which records say otherwise."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zoo_leaderboard.cells import START, start_of
from zoo_leaderboard.schema import Bench, DataSet, Record


def seeds_of(bench: Bench) -> set[int]:
    """Return the seeds that a bench set out to run."""
    data = bench.get("data", {}).values()
    return {seed for one in data for seed in seeds_of_data(bench, one)} or set(_count(bench, bench["seeds"]))


def seeds_of_data(bench: Bench, data: DataSet) -> Sequence[int]:
    """Return the seed of each place in the lists of a data set."""
    return data.get("seeds", _count(bench, len(data["sha256"])))


def _count(bench: Bench, seeds: int) -> range:
    first = bench["spec"].get("first_seed", 0)
    return range(first, first + seeds)


def unplanned(bench: Bench, record: Record) -> Iterator[str]:
    """Yield in what a record is not that of a cell of this bench."""
    seeds, said = seeds_of(bench), record["seed"]
    if said not in seeds:
        yield f"seed is {said}, and the bench has {', '.join(map(str, sorted(seeds)))}"
    share = record.get("budget_share", 1.0)
    if record["flops_budget"] not in (None, bench["flops_budget"] * share):
        yield f"flops_budget is {record['flops_budget']:.6g}, and the bench gives {bench['flops_budget'] * share:.6g}"
    plan: Mapping[str, Any] | None = next((one for one in bench["algorithms"] if one["row"] == record["row"]), None)
    if plan is not None:
        found: Mapping[str, Any] = {**record, "budget_share": share}
        for key, value in (*((key, plan[key]) for key in ("kind", "algorithm")), ("budget_share", _share(plan))):
            if found[key] != value:
                yield f"{key} is {found[key]!r}, and in the plan of the bench {value!r}"
        own = not plan.get("trials") and not bench.get("sources")  # trials choose more; another's paths are others
        if own and record["settings"] != plan["settings"]:
            yield f"settings are {record['settings']!r}, and in the plan of the bench {plan['settings']!r}"
    if not bench.get("sources") and ("tier" in record or start_of(record) != START):
        yield "tier and start are those of a row that was joined, and this bundle was joined from none"


def _share(plan: Mapping[str, Any]) -> float:
    return float(plan.get("budget_share", 1.0))
