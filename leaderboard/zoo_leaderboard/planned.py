"""What a bench set out to run, and which records say otherwise."""

from collections.abc import Iterator, Mapping, Sequence

from zoo_leaderboard.cells import START, start_of
from zoo_leaderboard.schema import Bench, DataSet, Planned, Record


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
    budget, given = record["flops_budget"], bench["flops_budget"] * record.get("budget_share", 1.0)
    if budget != given and (budget is not None or record["kind"] == "algorithm"):
        yield f"flops_budget is {budget if budget is None else f'{budget:.6g}'}, and the bench gives {given:.6g}"
    asked = _test_prompts(bench, said) if record["status"] == "ok" else None
    if asked is not None and len(record["items"]) != asked:
        yield f"it has {len(record['items'])} answers, and the bench has {asked} test prompts"
    plan = next((one for one in bench["algorithms"] if one["row"] == record["row"]), None)
    if plan is not None:
        yield from _unlike_plan(plan, record, joined=bool(bench.get("sources")))
    elif record["kind"] == "algorithm":
        yield "it is of no row in the plan of the bench"
    if not bench.get("sources") and ("tier" in record or start_of(record) != START):
        yield "tier and start are those of a row that was joined, and this bundle was joined from none"


def _unlike_plan(plan: Planned, record: Record, *, joined: bool) -> Iterator[str]:
    planned: Mapping[str, object] = {"budget_share": 1.0, **plan}
    found: Mapping[str, object] = {"budget_share": 1.0, **record}
    for key in ("kind", "algorithm", "budget_share"):
        if found[key] != planned[key]:
            yield f"{key} is {found[key]!r}, and in the plan of the bench {planned[key]!r}"
    own = not joined and not plan.get("trials")  # another's paths are others, and trials choose more
    if own and record["settings"] != plan["settings"]:
        yield f"settings are {record['settings']!r}, and in the plan of the bench {plan['settings']!r}"


def _test_prompts(bench: Bench, seed: int) -> int | None:
    """Return how many test prompts each row answers; None where the plan does not tell."""
    evaluation, data = bench["spec"].get("evaluation"), bench.get("data", {}).get("test_prompts")
    asked = evaluation.get("test_prompts") if isinstance(evaluation, dict) else None
    if not isinstance(asked, int) or data is None:
        return None
    there = dict(zip(seeds_of_data(bench, data), data["rows"], strict=True))
    return min(asked, there[seed]) if seed in there else None
