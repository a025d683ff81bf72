"""The job that measures a row or a stage: a few real updates, on the real model and data, in a process of its own.

What one costs, in FLOPs, seconds and memory, is planned by; a plugin that cannot make one is found before anything is
trained, and harms no other.
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice

import torch
from transformers import PreTrainedModel

from zoo_core.accounting import memory
from zoo_core.accounting.ledger import Ledger
from zoo_core.accounting.meter import module_of
from zoo_core.compute.precision import freeze
from zoo_core.compute.processes import all_gather, all_reduce_max, world_size
from zoo_core.compute.sharding import is_sharded
from zoo_core.errors import ModelError
from zoo_core.models.copies import copied, scorer_from
from zoo_core.models.lora import unadapted
from zoo_core.models.scorer import Scorer
from zoo_core.records import Algorithm, load_path
from zoo_core.registry.plugins import plugins
from zoo_core.registry.references import load_reward
from zoo_core.reward import Calibration, Reward
from zoo_core.rows import DataRow
from zoo_core.run import Run
from zoo_core.session.session import Session
from zoo_harness.job import Job, seconds_of_this_process
from zoo_harness.jobs.driven import Watchdog, driven
from zoo_harness.jobs.fitting import until_it_fits
from zoo_harness.jobs.label_pairs import labelled
from zoo_harness.jobs.materials import Materials, open_judge, open_reward
from zoo_harness.jobs.trace import Cells, Tracer, WatchedEngine, mean_of
from zoo_harness.payloads import Measuring
from zoo_harness.planning.pipeline import Pipeline
from zoo_harness.planning.sizes import Sizes, read_config, sizes_of
from zoo_harness.results import Cost, LoopCost, Measured
from zoo_harness.spec.schema import FROM_PAIRS, LabelPairs
from zoo_harness.spec.settings import configure

UNBOUNDED = 1e30
LOOK = 2
"""Updates of each loop that are measured; the first, which makes the optimizer's states, tells only of memory."""


@dataclass
class MeasuredLoop:
    """One loop of an algorithm."""

    most: int | None
    """Updates that it is bounded by."""
    share: float
    """Its part of the budget."""
    costs: list[tuple[Cells, float, int]]
    """FLOPs, seconds and steps of sampling of its first updates."""

    def report(self) -> LoopCost:
        """Return what an update costs."""
        usual = self.costs[1:] or self.costs
        cells, seconds, steps = zip(*usual, strict=True)
        parts = mean_of(list(cells))
        return {
            "most": self.most,
            "share": self.share,
            "flops": sum(flops for *_, flops in parts),
            "seconds": max(sum(seconds) / len(usual), 1e-6),
            "parts": parts,
            "sampling_steps": sum(steps) / len(usual),
        }


def run(job: Job) -> Measured:
    """Measure; an update that takes too long ends the process with a word on whose it was."""
    payload = Measuring.of(job.payload)
    algorithm = plugins().algorithm(payload.algorithm)
    with Watchdog(job, algorithm) as watchdog:
        watchdog.allow(payload.spec.update_seconds)
        cost = until_it_fits(lambda: measure(payload, algorithm, watchdog), lambda tokens: None)
        return {"identity": job.identity, "cost": cost, "seconds": seconds_of_this_process()}


def measure(payload: Measuring, algorithm: Algorithm, watchdog: Watchdog) -> Cost:
    """Run the first updates of each loop from the base model; what they cost does not depend on the weights."""
    materials, reward_ref = Materials(payload.spec, half=payload.half), payload.reward
    policy = materials.policy(materials.base, algorithm, 0)
    rewarded = "reward" in algorithm.learns_from
    session = unbounded(materials, policy, reward_ref if rewarded else None)
    session.rows = _rows(materials, policy, algorithm)
    session.judge = open_judge(materials.spec, algorithm.learns_from)
    tracer = traced(materials, session, reward_ref)
    loops: list[MeasuredLoop] = []
    opened: list[float] = []

    class Glance(Run):
        """Ends every loop after a few updates, and notes what they cost."""

        def updates(self, most: int | None = None) -> Iterator[int]:
            window = self._loop.window
            loops.append(MeasuredLoop(most, min(1.0, (window.end - window.start) / UNBOUNDED), []))
            before, steps, began = tracer.parts, engine.steps, time.perf_counter()
            opened.append(seconds_of_this_process())
            for update in super().updates(min(most or LOOK, LOOK)):
                with tracer.held if update == 0 else nullcontext():
                    yield update
                seconds = time.perf_counter() - began
                session.ledger.gather()  # what other processes computed of this update
                loops[-1].costs.append((tracer.parts - before, seconds, engine.steps - steps))
                before, steps, began = tracer.parts, engine.steps, time.perf_counter()

    engine = session.engine = WatchedEngine(session.engine)
    config = configure(algorithm, payload.settings)
    for _ in driven(algorithm, config, Glance(session), session):
        watchdog.allow(payload.spec.update_seconds)
    resident = tracer.weights(session.kept.values())
    session.ledger.gather()
    prepared = Counter({cell: flops for cell, flops in tracer.parts.items() if cell[1] == "prepare"})
    return {
        "opening_seconds": opened[0],
        "loops": [loop.report() for loop in loops],
        "prepare_flops": prepared.total(),
        "prepare_parts": mean_of([prepared]),
        "memory_bytes": all_reduce_max(memory.peak()),
        "processes": world_size(),
        "models_resident": session.ledger.report()["models_resident"],
        "checkpoint_bytes": _state_bytes(session),
        "held": {
            "weights": resident.weights,
            "gradients": resident.gradients,
            "states": resident.states,
            "undo": resident.undo,
            "activations": sum(all_gather(tracer.held.finish()), Counter[str]()),
        },
        "cached_tokens": engine.cached_tokens,
        "sampled_at_once": engine.rows,
    }


def reward_to_measure(ref: str | None, materials: Materials, policy: PreTrainedModel) -> Reward | None:
    """Open a reward or gold; one that is still to be trained on pairs is as its stage begins."""
    if ref != FROM_PAIRS:
        return None if ref is None else open_reward(ref, None)
    pipeline = Pipeline.of(materials.spec)
    maker = pipeline.reward_maker
    if maker is None or maker.untrained is None:
        scorer = scorer_from(policy, 0)
    else:
        base = unadapted(copied(policy))
        scorer = load_path(maker.untrained)(configure(maker, pipeline.recipe(maker)), base, 0)
    # One that is divided already stays in float32: what it takes is measured too large, where it is `weights: bf16`.
    frozen = scorer.eval().requires_grad_(False) if is_sharded(scorer) else freeze(scorer)
    return Scorer(frozen, materials.encoder.tokenizer)


def unbounded(materials: Materials, policy: PreTrainedModel, reward_ref: str | None) -> Session:
    """A session that nothing bounds."""
    reward = reward_to_measure(reward_ref, materials, policy)
    return Session(
        policy=policy,
        encoder=materials.encoder,
        seed=0,
        budget=UNBOUNDED,
        reward=reward,
        calibration=Calibration(0.0, 1.0) if reward else None,
        engine=materials.engine(),
        audited=0.0,
    )


def traced(materials: Materials, session: Session, reward_ref: str | None) -> Tracer:
    """Let the session's meter tell parts apart; a scorer or judge that is not the base's keeps its size."""
    base: Sizes | None
    spec = materials.spec
    ready_made: list[object] = [session.reward] if reward_ref != FROM_PAIRS else []
    ready_made += [session.judge] if spec.judge not in (None, spec.base) else []
    foreign = [model for one in ready_made if (model := module_of(one)) is not None]
    try:
        base = sizes_of(read_config(materials.base))
    except ModelError:  # a mixture of experts, as a rule: it is measured as any other, and predicts no other size
        base = None
    tracer = Tracer(base, foreign)
    session.ledger = Ledger(tracer)
    return tracer


def _rows(materials: Materials, policy: PreTrainedModel, algorithm: Algorithm) -> dict[str, list[DataRow]]:
    """The data sets that an algorithm learns from; a few pairs of the base's own where the bench is to make them."""
    wanted, seed = materials.spec.preferences, materials.spec.first_seed
    if not isinstance(wanted, LabelPairs) or "preferences" not in algorithm.learns_from:
        return materials.signals(algorithm.learns_from, seed)
    some = wanted.model_copy(update={"pairs": 64})
    session = Session(policy, materials.encoder, seed, UNBOUNDED, materials.signals(("prompts",), seed))
    pairs = islice(labelled(Run(session), some, load_reward(wanted.annotator)), some.pairs)
    rest = [signal for signal in algorithm.learns_from if signal != "preferences"]
    return {**materials.signals(rest, seed), "preferences": materials.parsed(pairs, "pair", seed)}


def _state_bytes(session: Session) -> int:
    """Bytes of one checkpoint: everything kept, AdamW's two moments included."""
    states = (thing.state_dict() for thing in session.kept.values() if hasattr(thing, "state_dict"))
    return sum(_tensor_bytes(state) for state in states)


def _tensor_bytes(tree: object) -> int:
    if isinstance(tree, torch.Tensor):
        return tree.nbytes
    if isinstance(tree, dict):
        return sum(map(_tensor_bytes, tree.values()))
    return sum(map(_tensor_bytes, tree)) if isinstance(tree, (list, tuple)) else 0
