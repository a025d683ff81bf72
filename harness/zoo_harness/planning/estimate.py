"""What a bench will cost, from the probe's measurements: shown before anything runs."""

from collections.abc import Iterable, Sequence
from typing import Literal, TypedDict

from zoo_leaderboard.schema import DataSet, ProbedBase

from zoo_core.errors import BudgetError
from zoo_harness import trials
from zoo_harness.job import Job
from zoo_harness.payloads import ToScore, Training
from zoo_harness.planning.notes import notes_on_data, notes_on_device, notes_on_models, notes_on_plugins
from zoo_harness.planning.pipeline import Row
from zoo_harness.planning.plan import Plan
from zoo_harness.results import POINTS, LoopCost, Price, Probe, SamplingCost
from zoo_harness.spec.schema import MOST_FOR_STAGES, Spec

FEW_UPDATES = 50
LARGE_STAGE_SHARE = 0.33


class Filled(TypedDict):
    """How a row fills its budget."""

    stage_share: float
    """FLOPs of the row's stages by the budget."""
    updates: int


class RowFigures(Filled):
    """What one row will cost."""

    row: str
    algorithm: str
    flops: float
    """Its budget."""
    flops_per_update: float
    seconds: float
    memory_bytes: int
    models_resident: float
    disk_bytes: int


class Figures(TypedDict):
    """What a bench will cost."""

    identity: str
    budget: float
    seeds: int
    base: ProbedBase
    data: dict[str, DataSet]
    stages: dict[str, float]
    """FLOPs by stage."""
    rows: list[RowFigures]
    training: Price
    """Of all rows and stages, all seeds; seconds of one worker."""
    scoring: Price
    """The same of all scoring."""
    best_of: Price
    """The part of it that the rows take which answer with the best of several samples."""
    probe_seconds: float
    """Seconds of one worker that checking the input and measuring took."""
    left_out: dict[str, str]
    """Why a row cannot run."""
    warnings: list[str]


def figures(plan: Plan) -> Figures:
    """Estimate each row: updates, FLOPs, share of stages, seconds, memory, disk; with warnings."""
    costs, of_stages = plan.probe["costs"], stage_flops(plan)
    rows, warnings = list[RowFigures](), list[str]()
    for row in plan.pipeline.rows:
        cost, budget = costs[row.name], plan.budget_of(row)
        stages, _, _, needed = filling(plan, row)
        runs = [(count, *filling(plan, row, part)[1:3]) for count, part in trials.runs_of(row.entry)]
        found: RowFigures = {
            "row": row.name,
            "algorithm": row.algorithm.name,
            "flops": budget,
            "stage_share": stages / budget,
            "flops_per_update": cost["loops"][-1]["flops"],
            "updates": sum(count * updates for count, updates, _ in runs),
            "seconds": sum(count * (cost["opening_seconds"] + spent) for count, _, spent in runs),
            "memory_bytes": cost["memory_bytes"],
            "models_resident": cost["models_resident"],
            "disk_bytes": 3 * cost["checkpoint_bytes"],
        }
        rows.append(found)
        warnings += warnings_of(row, found, budget, needed)
        if cost["processes"] > 1:
            warnings.append(
                f"{row.name}: one GPU has too little memory for it, so {cost['processes']} train it together."
            )
    warnings += notes_on_trials(plan)
    of_jobs = [(job, price_of(plan, job)) for job in plan.jobs()]
    scoring = _sum(price for job, price in of_jobs if job.kind == "score")
    best_of = _sum(price for job, price in of_jobs if job.kind == "score" and job.payload["best_of"])
    training = _sum(price for job, price in of_jobs if job.kind != "score")
    if best_of["seconds"] > max(training["seconds"], scoring["seconds"] / 2):
        warnings.append(
            f"the best-of-n rows alone take {best_of['seconds'] / 60:.1f} minutes of one worker, longer than all "
            "training. evaluation: {best_of: [4]} asks for less, {best_of: []} for none."
        )
    return {
        "identity": plan.identity,
        "budget": plan.budget,
        "seeds": plan.spec.seeds,
        "base": plan.probe["base"],
        "data": plan.probe["data"],
        "stages": of_stages,
        "rows": rows,
        "training": training,
        "scoring": scoring,
        "best_of": best_of,
        "probe_seconds": plan.probe["seconds"],
        "left_out": {one.name: one.reason for one in plan.pipeline.left_out},
        "warnings": [
            *notes_on_plugins(plan),
            *warnings,
            *notes_on_data(plan.probe["data"], plan.spec),
            *notes_on_models(plan.probe),
            *notes_on_device(plan.probe),
        ],
    }


def _sum(prices: Iterable[Price]) -> Price:
    found = list(prices)
    return {"seconds": sum(one["seconds"] for one in found), "flops": sum(one["flops"] for one in found)}


def filling(plan: Plan, row: Row, part: float = 1.0) -> tuple[float, int, float, float]:
    """Return FLOPs of a row's stages; of a part of the rest updates, seconds, FLOPs to the first (`updates_of`)."""
    cost, of_stages = plan.probe["costs"][row.name], stage_flops(plan)
    stages = sum((of_stages[name] for name in plan.pipeline.closure(row)), 0.0)
    return stages, *updates_of(cost["loops"], max(0.0, (plan.budget_of(row) - stages) * part - cost["prepare_flops"]))


def price_of(plan: Plan, job: Job) -> Price:
    """Estimate what one job takes, from the start of its process on."""
    costs, scoring = plan.probe["costs"], plan.probe["scoring"]
    if job.kind == "score":
        return _price_of_scoring(plan, ToScore.of(job.payload), job.seed)
    if job.kind == "train" and job.row:
        row = next(row for row in plan.pipeline.rows if row.name == job.row)
        part = Training.of(job.payload).part
        stages, _, seconds, _ = filling(plan, row, part)
        return {
            "seconds": costs[row.name]["opening_seconds"] + seconds,
            "flops": max(0.0, plan.budget_of(row) - stages) * part,
        }
    stage: SamplingCost
    if job.kind == "held_out":  # its rows are read once, by one model
        return {"seconds": 2 * scoring["opening_seconds"], "flops": 0.0}
    if job.kind == "train":
        stage = cost = costs[f"stage {job.payload['algorithm']}"]
        opening = cost["opening_seconds"]
    else:
        stage = plan.probe["samples"]["pairs" if job.kind == "label_pairs" else f"calibration {job.payload['reward']}"]
        opening = scoring["opening_seconds"]
    return {"seconds": opening + whole(stage, "seconds"), "flops": whole(stage, "flops")}


def _price_of_scoring(plan: Plan, payload: ToScore, seed: int) -> Price:
    """Answers at every temperature and on the way there, their divergence from `start`, and the tasks."""
    wanted, cost, there = plan.spec.evaluation, plan.probe["scoring"], plan.probe["data"]
    place = seed - plan.spec.first_seed
    # Small data sets have fewer prompts than the spec asks for.
    dev = min(wanted.dev_prompts, there["dev_prompts"]["rows"][place])
    test, curve = (
        min(most, there["test_prompts"]["rows"][place]) for most in (wanted.test_prompts, wanted.curve_prompts)
    )
    samples = payload.best_of or 1
    colder = [temperature for temperature in wanted.temperatures if temperature > 0 or samples == 1]
    on_dev = dev * max(1, len(colder))
    if payload.dev_only:
        answer = cost["answer"]
        return {"seconds": cost["opening_seconds"] + on_dev * answer["seconds"], "flops": on_dev * answer["flops"]}
    answers = on_dev + test
    points = len(POINTS) if payload.trained and payload.trained.is_relative_to(plan.output) else 0
    compared = 0 if payload.best_of or not payload.start else test + points * curve
    if samples == 1:  # the divergence is of samples at temperature 1, mostly not the row's own
        answers += test
    answers += curve * (points if samples == 1 else 1)
    opening = cost["opening_seconds"] + points * cost["loading_seconds"]

    def total(unit: Literal["flops", "seconds"]) -> float:
        tasks = 0.0 if payload.best_of else cost["tasks"][unit]
        answer = cost["answer_of_several" if samples > 1 else "answer"][unit]
        return answers * samples * answer + compared * cost["divergence"][unit] + tasks

    return {"seconds": opening + total("seconds"), "flops": total("flops")}


def budget_of(spec: Spec, probe: Probe) -> float:
    """The budget in FLOPs: a time is converted once, by the rate of the slowest row's update, to two digits."""
    if spec.budget_seconds is None:
        return float(spec.budget)
    loops = [loop for cost in probe["costs"].values() for loop in cost["loops"]]
    return float(f"{spec.budget_seconds * min(loop['flops'] / loop['seconds'] for loop in loops):.1e}")


def updates_of(loops: Sequence[LoopCost], flops: float) -> tuple[int, float, float]:
    """Return the updates that fit in so many FLOPs, their seconds, and the FLOPs that lead to the last loop's first."""
    left, updates, seconds, needed = flops, 0, 0.0, 0.0
    for loop in loops:
        needed = flops - left + loop["flops"]
        room = min(left, flops * loop["share"]) if loop is not loops[-1] else left
        fit = int(room / loop["flops"])
        count = fit if loop["most"] is None else min(fit, int(loop["most"]))
        left -= count * loop["flops"]
        updates += count
        seconds += count * loop["seconds"]
    return updates, seconds, needed


def whole(cost: SamplingCost, unit: Literal["flops", "seconds"]) -> float:
    """FLOPs or seconds of a stage's whole recipe."""
    return float(sum(loop[unit] * (loop["most"] or 0) for loop in cost["loops"]))


def stage_flops(plan: Plan) -> dict[str, float]:
    """FLOPs of the stages that rows stand on, by the names that `Pipeline.closure` gives."""
    pipeline, found = plan.pipeline, dict[str, float]()
    for name, stage in (("start", pipeline.start), ("reward", pipeline.reward_maker)):
        if stage is not None:
            found[name] = whole(plan.probe["costs"][f"stage {stage.name}"], "flops")
    return found | {name: whole(cost, "flops") for name, cost in plan.probe["samples"].items()}


def lacking(plan: Plan) -> dict[str, str]:
    """Return the rows that cannot make one update in their budget, and why."""
    found = {}
    for row in plan.pipeline.rows:
        stages, _, _, needed = filling(plan, row)
        found[row.name] = lack_of(row, stages / plan.budget_of(row), plan.budget_of(row), needed)
    return {name: why for name, why in found.items() if why}


def lack_of(row: Row, share: float, budget: float, needed: float) -> str:
    """Say that a budget is too small for one update of a row, if it is.

    `share` is what its stages take of it, `needed` the FLOPs beside them that lead to the last loop's first update.
    """
    if needed <= (1 - share) * budget:
        return ""
    return (
        f"the budget of {budget:.3g} FLOPs is too small for one update of {row.name}: beside its stages ({share:.0%}) "
        f"there is less left than the {needed:.3g} FLOPs that lead to one."
    )


def notes_on_trials(plan: Plan) -> list[str]:
    """What each trial of a tuned row has; `BudgetError` if no tuned row's have enough for one update."""
    lacking, enough = list[str](), list[str]()
    for row in plan.pipeline.rows:
        (stages, updates, _, needed), budget = (
            filling(plan, row, trials.part_of_a_trial(row.entry)),
            plan.budget_of(row),
        )
        count, own = row.entry.trials, (budget - stages) * trials.part_of_a_trial(row.entry)
        if not count or stages > MOST_FOR_STAGES * budget:
            continue
        _, final, _, _ = filling(plan, row, trials.FINAL_PART)
        if needed > own - plan.probe["costs"][row.name]["prepare_flops"]:
            lacking.append(
                f"{row.name}: {count} trials are too many for this budget: each has {own:.3g} FLOPs, less than the "
                f"{needed:.3g} that lead to one update with the settings that the row is given."
            )
        else:
            enough.append(
                f"{row.name}: each of its {count} trials makes about {updates} updates ({own:.2g} FLOPs), the run with "
                f"the settings of the best {final}."
            )
    if lacking and not enough:
        raise BudgetError(" ".join([*lacking, "Give fewer --trials, or a larger --budget."]))
    return [*enough, *(f"{lack} It is likely to fail: give fewer --trials, or a larger --budget." for lack in lacking)]


def warnings_of(row: Row, found: Filled, budget: float, needed: float) -> list[str]:
    """What is unusual about a row; `BudgetError` if not one update fits, except at another share of the budget."""
    share, warnings = found["stage_share"], []
    if share > MOST_FOR_STAGES:
        return [f"{row.name} does not fit in this budget: its stages take {share:.0%} of it."]
    if lack := lack_of(row, share, budget, needed):
        if row.entry.budget_share != 1:  # the other rows have a budget that they fit in
            return [f"{lack} Leave its share out of --budgets, or give a larger --budget."]
        raise BudgetError(f"{lack} Give a larger --budget.")
    if share > LARGE_STAGE_SHARE:
        warnings.append(f"{row.name}: its stages take {share:.0%} of the budget.")
    if found["updates"] < FEW_UPDATES and not row.algorithm.stops_early:
        warnings.append(
            f"{row.name}: about {found['updates']} updates fit in the budget; below {FEW_UPDATES} up to 5 % "
            "stays unused."
        )
    return warnings
