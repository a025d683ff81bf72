"""What a bench would cost with another base model, from that model's configuration and updates of a small one.

The probe runs the real loops on the spec's own base and books what each update computes and holds by part of a model
(`trace.py`). A part's cost is in proportion to a size that both configurations tell (`sizes.py`), so every figure is
multiplied by the ratio of the two; nothing about the algorithms is assumed.

    FLOPs        by layer: its linear layers by their weights, attention by heads · width; heads by their shape
    weights, gradients, AdamW's states     by the parameters of a layer, and of what is outside the layers
    undo         a copy of what is trained and its states, there in updates that might pass the budget
    activations  what autograd holds when it holds most, by layer and width, and the gradient of the largest logits
    cache        2 · tokens sampled at once · key width · layers, and the logits of one step

Memory of a device, of N that divide the batch:

    FSDP2   (weights + gradients + states + undo) / N + 2 · (one layer + what is outside) if N > 1
    DDP      weights + gradients + states + undo, and gradients again (what is being reduced) if N > 1
    and the larger of activations / N and cache / N

All in float32; a workspace of kernels and an allocator's fragments come on top. A base whose heads all have keys of
their own cannot tell keys from hidden states: for a target with fewer, activations come out up to a sixth too large.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TypedDict

from zoo_core.errors import BudgetError, SpecError
from zoo_harness.planning.estimate import Filled, filling, stage_flops, warnings_of, whole
from zoo_harness.planning.plan import Plan
from zoo_harness.planning.sizes import Sizes, read_config, sizes_of
from zoo_harness.results import Cost, LoopCost, SamplingCost

LOGIT, HALF = 4, 2
"""Bytes of a logit, which is brought to float32 whatever the weights are, and of a number in bf16."""


@dataclass(frozen=True)
class Machine:
    """The devices that a bench is planned for. What is None is not known, and what follows from it is not shown."""

    devices: int = 1
    memory: float | None = None
    """Bytes of one device."""
    flops_per_second: float | None = None
    """That one device reaches: its peak times the share of it that is used."""
    bytes_per_second: float | None = None
    """Of one device's memory: sampling reads all weights for every token."""
    price_per_hour: float | None = None
    """Of one device."""


class Memory(TypedDict):
    """Bytes: of all devices together by purpose, and what one device holds under FSDP2 and under DDP."""

    weights: float
    gradients: float
    states: float
    undo: float
    activations: float
    cache: float
    fsdp2_device: float
    ddp_device: float


class PredictedRow(Filled):
    """What one row would cost."""

    row: str
    algorithm: str
    flops_per_update: float
    seconds: float | None
    memory: Memory


class Predicted(TypedDict):
    """What a bench would cost with another base, or on other devices."""

    budget: float
    seeds: int
    measured_on: dict[str, object]
    target: dict[str, object]
    """The reference of the base, and its `Sizes`."""
    machine: dict[str, object]
    """A `Machine`."""
    stages: dict[str, float]
    rows: list[PredictedRow]
    training_hours: float | None
    cost: float | None
    warnings: list[str]


class Scale:
    """From one model's sizes to another's.

    `trained` are the layers that an algorithm trains, or adapts, on the base. The lowest and the highest layers are
    alike in both models (nothing below an adapter's first layer needs a gradient, `hydra` trains a fixed number of the
    highest), so it is a layer between them that the target has more of: of those that are frozen, if the lowest are.
    """

    def __init__(self, base: Sizes, target: Sizes, trained: Iterable[int] = ()) -> None:
        self.base, self.target = base, target
        lowest = min(trained, default=0)
        self._repeated = lowest - 1 if lowest else min(max(1, (base.depth - 1) // 2), base.depth - 1)
        outside = {"causal": target.outside / base.outside, "tokens": 1.0}
        self._outside = outside | {
            name: getattr(target, name) / getattr(base, name) for name in ("vocabulary", "inner")
        }
        self._outside |= {"hidden": target.hidden / base.hidden, "kv": target.kv / base.kv}
        self._axes = {base.hidden: target.hidden, base.vocabulary: target.vocabulary}

    def factor(self, part: str) -> float:
        """How much larger the target's is, of a part that `trace.py` names."""
        where, *rest = part.split("/")
        if where == "layer":
            number, depth, kind = int(rest[0]), int(rest[1]), rest[2]
            return self._copies(number, depth) * self.target.layer[kind] / self.base.layer[kind]
        if where != "outside":
            return 1.0
        if rest[0] in self._outside:
            return float(self._outside[rest[0]])
        grown = 1.0
        for axis in map(int, rest[0].split("x")):
            grown *= self._axes.get(axis, axis) / axis
        return grown

    def total(self, parts: Mapping[str, float | int]) -> float:
        """What all parts come to."""
        return sum(amount * self.factor(part) for part, amount in parts.items())

    def _copies(self, number: int, depth: int) -> float:
        """Layers of the target that stand for this one of the base."""
        if depth != self.base.depth:
            return 1.0
        more = self.target.depth - depth
        if more >= 0:
            return 1.0 + more * (number == self._repeated)
        alike = [*(range(self._repeated, 0, -1) or [0]), *range(self._repeated + 1, depth)]
        return float(number not in alike[:-more])


def predict(plan: Plan, ref: str | None, machine: Machine) -> Predicted:
    """Figures of the plan with the base that `ref` configures (None: the spec's own) on these devices."""
    base = sizes_of(read_config(plan.probe["base_path"]))
    target = sizes_of(read_config(ref)) if ref else base
    _check_context(plan, ref, target)
    width, measured = plan.probe["bytes_per_weight"], plan.probe["costs"]
    scales = {name: Scale(base, target, _trained(cost)) for name, cost in measured.items()}
    costs = {name: _scaled(cost, scales[name], machine, width) for name, cost in measured.items()}
    untrained = Scale(base, target)
    samples: dict[str, SamplingCost] = {
        name: {"loops": [_loop(loop, untrained, machine, width) for loop in cost["loops"]]}
        for name, cost in plan.probe["samples"].items()
    }
    scaled = Plan(plan.pipeline, {**plan.probe, "costs": costs, "samples": samples}, 0.0, plan.output, plan.cache)
    scaled.budget = _budget(plan, machine)
    of_stages, rows, warnings = stage_flops(scaled), list[PredictedRow](), list[str]()
    _check_budget(scaled, of_stages)
    shared = [*samples.values(), *(costs[f"stage {stage.name}"] for stage in plan.pipeline.stages)]
    seconds = _sum(whole(cost, "seconds") if machine.flops_per_second else None for cost in shared)
    for row in plan.pipeline.rows:
        cost = costs[row.name]
        budget, (stages, updates, spent, needed) = scaled.budget_of(row), filling(scaled, row)
        memory = _memory(plan, measured[row.name], scales[row.name], machine.devices)
        found: PredictedRow = {
            "row": row.name,
            "algorithm": row.algorithm.name,
            "stage_share": stages / budget,
            "flops_per_update": cost["loops"][-1]["flops"],
            "updates": updates,
            "seconds": spent if machine.flops_per_second else None,
            "memory": memory,
        }
        rows.append(found)
        seconds = _sum([seconds, found["seconds"]])
        warnings += warnings_of(row, found, budget, needed)
        warnings += _fits(row.name, memory, machine)
    hours = None if seconds is None else seconds * plan.spec.seeds / 3600
    price = machine.price_per_hour
    return {
        "budget": scaled.budget,
        "seeds": plan.spec.seeds,
        "measured_on": {"ref": plan.probe["base"]["ref"], "parameters": base.parameters},
        "target": {"ref": ref or plan.probe["base"]["ref"], **asdict(target)},
        "machine": asdict(machine),
        "stages": of_stages,
        "rows": rows,
        "training_hours": hours,
        "cost": None if hours is None or price is None else hours * machine.devices * price,
        "warnings": warnings,
    }


def _trained(cost: Cost) -> list[int]:
    """Number the layers that have gradients."""
    parts = (part.split("/") for part in cost["held"]["gradients"])
    return [int(part[1]) for part in parts if part[0] == "layer"]


def _scaled(cost: Cost, scale: Scale, machine: Machine, width: int) -> Cost:
    """Return a cost of the probe with the target's FLOPs, and its seconds on these devices (0 if unknown)."""
    loops = [_loop(loop, scale, machine, width) for loop in cost["loops"]]
    prepared = sum(flops * scale.factor(part) for _, _, part, flops in cost["prepare_parts"])
    return {**cost, "loops": loops, "prepare_flops": prepared}


def _loop(loop: LoopCost, scale: Scale, machine: Machine, width: int) -> LoopCost:
    by_phase: dict[str, float] = {}
    for _, phase, part, flops in loop["parts"]:
        by_phase[phase] = by_phase.get(phase, 0.0) + flops * scale.factor(part)
    total, rate = sum(by_phase.values()), (machine.flops_per_second or 0.0) * machine.devices
    if not rate:
        return {**loop, "flops": total, "seconds": 0.0}
    seconds = {phase: flops / rate for phase, flops in by_phase.items()}
    if machine.bytes_per_second:
        # Devices divide the rows of a step; each reads all weights for those it has.
        reading = loop["sampling_steps"] * scale.target.parameters * width / machine.bytes_per_second
        seconds["sample"] = max(seconds.get("sample", 0.0), reading)
    return {**loop, "flops": total, "seconds": sum(seconds.values())}


def _memory(plan: Plan, cost: Cost, scale: Scale, devices: int) -> Memory:
    """Bytes by purpose, of all devices together, and what one device holds."""
    held, target, width = cost["held"], scale.target, plan.probe["bytes_per_weight"]
    weights, gradients, states = (scale.total(held[kind]) for kind in ("weights", "gradients", "states"))
    undo, activations = scale.total(held["undo"]), scale.total(held["activations"])
    half = plan.spec.precision == "bf16"
    cache = (HALF if half else width) * 2 * cost["cached_tokens"] * target.kv * target.depth
    cache += LOGIT * cost["sampled_at_once"] * target.vocabulary
    cache += HALF * target.parameters * (half and cost["cached_tokens"] > 0)  # the policy's weights, cast to sample
    # A GPU keeps what it samples in where it is, for the next time.
    stays = plan.probe["environment"]["device"] == "cuda"
    working = (activations + cache if stays else max(activations, cache)) / devices
    sharded = (weights + gradients + states + undo) / devices
    gathered = 2 * width * (target.layer["parameters"] + target.outside) if devices > 1 else 0.0
    return {
        "weights": weights,
        "gradients": gradients,
        "states": states,
        "undo": undo,
        "activations": activations,
        "cache": cache,
        "fsdp2_device": sharded + gathered + working,
        "ddp_device": weights + gradients * (2 if devices > 1 else 1) + states + undo + working,
    }


def _fits(row: str, memory: Memory, machine: Machine) -> list[str]:
    if machine.memory is None or memory["fsdp2_device"] <= machine.memory:
        return []
    need, there = memory["fsdp2_device"] / 1e9, machine.memory / 1e9
    return [f"{row} does not fit: {need:,.0f} GB a device with FSDP2, and a device has {there:,.0f}."]


def _budget(plan: Plan, machine: Machine) -> float:
    """The budget in FLOPs; a time is that of all devices together."""
    seconds = plan.spec.budget_seconds
    if seconds is None:
        return plan.budget
    if machine.flops_per_second is None:
        raise SpecError(
            f"budget: {plan.spec.budget} is a time, and how fast the devices are is not known. Give "
            "--flops-per-second, or a budget in FLOPs."
        )
    return seconds * machine.flops_per_second * machine.devices


def _check_budget(plan: Plan, of_stages: Mapping[str, float]) -> None:
    """Raise `BudgetError` with what every row would need, so that one correction is enough."""
    least = {
        row.name: sum(of_stages[name] for name in plan.pipeline.closure(row))
        + plan.probe["costs"][row.name]["prepare_flops"]
        + plan.probe["costs"][row.name]["loops"][-1]["flops"]
        for row in plan.pipeline.rows
        if row.entry.budget_share == 1  # of the others `warnings_of` tells
    }
    dearest = max(least, key=lambda row: least[row], default=None)
    if dearest is not None and least[dearest] > plan.budget:
        raise BudgetError(
            f"the budget of {plan.budget:.3g} FLOPs is too small for this base: {dearest} needs "
            f"{least[dearest]:.3g} for its stages and one update. Give a larger --budget."
        )


def _check_context(plan: Plan, ref: str | None, target: Sizes) -> None:
    wanted = plan.spec.prompt_tokens + plan.spec.response_tokens
    if target.context is not None and wanted > target.context:
        raise SpecError(
            f"prompt_tokens and response_tokens make {wanted} tokens, more than the context of {ref} "
            f"({target.context}). Lower one of them."
        )


def _sum(seconds: Iterable[float | None]) -> float | None:
    """The sum; None if one is not known."""
    found = list(seconds)
    return None if None in found else sum(found)  # type: ignore[arg-type]
