"""The job that measures what a bench does beside training: calibrations, labelling and scoring, a little of each."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from transformers import PreTrainedModel

from zoo_core.accounting.meter import module_of
from zoo_core.calibration import BATCH, SAMPLES
from zoo_core.models.loading import load_policy
from zoo_core.registry.references import load_reward
from zoo_core.reward import Calibration
from zoo_core.rows import Prompt
from zoo_core.run import Run
from zoo_harness.job import Job, seconds_of_this_process
from zoo_harness.jobs import score
from zoo_harness.jobs.label_pairs import labelled
from zoo_harness.jobs.materials import Materials
from zoo_harness.jobs.measure import reward_to_measure, traced, unbounded
from zoo_harness.jobs.measures import GoldAndProxy
from zoo_harness.jobs.score import Scoring
from zoo_harness.jobs.trace import WatchedEngine, mean_of
from zoo_harness.payloads import Rehearsing, ToScore
from zoo_harness.results import LoopCost, Price, Rehearsed, SamplingCost, ScoringCost
from zoo_harness.spec.schema import LabelPairs, Spec

T = TypeVar("T")
PROMPTS_OF_SEVERAL = 16
"""Prompts that are answered several times: enough for batches that are as fast as whole ones."""
FEW_AND_MORE = (8, 40)
"""Items of each lm-eval task that are asked to tell how long all take."""


def run(job: Job) -> Rehearsed:
    """Measure one batch of everything."""
    payload = Rehearsing.of(job.payload)
    return {
        "identity": job.identity,
        "scoring": measure_scoring(job, payload),
        "samples": measure_samples(Materials(payload.spec, half=payload.half), payload.spec, payload.rewards),
        "seconds": seconds_of_this_process(),
    }


def measure_scoring(job: Job, payload: Rehearsing) -> ScoringCost:
    """Score the base as if it were a row that was trained: one batch of answers, and a few items of each task."""
    spec, materials = payload.spec, Materials(payload.spec, half=payload.half)
    blind = ToScore(
        spec=spec.model_copy(update={"gold": None}), half=payload.half, weights=materials.base, start=materials.base
    )
    scoring = Scoring(job, blind)
    model = scoring.load(materials.base)
    gold, proxy = (reward_to_measure(ref, materials, model) for ref in (spec.gold, spec.reward))
    scoring.scorers = GoldAndProxy(gold, proxy, Calibration(0.0, 1.0))
    opened, began = seconds_of_this_process(), time.perf_counter()
    scoring.load(materials.base)
    loaded = time.perf_counter() - began
    prompts = materials.texts("test_prompts", 0, score.BATCH)
    rollouts, answers = _priced(scoring, lambda: scoring.sample(model, prompts, 1.0, "test"))
    _, scores = _priced(scoring, lambda: scoring.summary(rollouts))
    _, divergence = _priced(scoring, lambda: scoring.divergence(model, rollouts))
    answer = _each(len(prompts), answers, scores)
    return {
        "opening_seconds": opened,
        "loading_seconds": loaded,
        "answer": answer,
        "answer_of_several": _price_of_several(scoring, model, prompts) or answer,
        "divergence": _each(len(prompts), divergence),
        "tasks": _price_of_tasks(scoring, model),
    }


def _price_of_several(scoring: Scoring, model: PreTrainedModel, prompts: Sequence[Prompt]) -> Price | None:
    """What one answer costs a row that answers with the best of several; None if there is no such row."""
    several = max(scoring.spec.evaluation.best_of, default=1)
    if several == 1 or scoring.scorers.proxy is None:
        return None
    if (scorer := module_of(scoring.scorers.proxy)) is not None:
        scoring.meter.attach(scorer, "reward")
    scoring.best_of = several
    few = prompts[:PROMPTS_OF_SEVERAL]
    _, price = _priced(scoring, lambda: scoring.sample(model, few, 1.0, "best of"))
    scoring.best_of = 1
    return _each(len(few) * several, price)


def _priced(scoring: Scoring, do: Callable[[], T]) -> tuple[T, Price]:
    """Do something; return what it returns, and what it cost."""
    before, began = scoring.meter.total, time.perf_counter()
    found = do()
    return found, {"seconds": time.perf_counter() - began, "flops": float(scoring.meter.total - before)}


def _each(count: int, *prices: Price) -> Price:
    return {
        "seconds": sum(price["seconds"] for price in prices) / count,
        "flops": sum(price["flops"] for price in prices) / count,
    }


def _price_of_tasks(scoring: Scoring, model: PreTrainedModel) -> Price:
    """What all items cost, by what a few and a few more do: much of the time is the same for any number of items."""
    if not scoring.spec.tasks:
        return {"seconds": 0.0, "flops": 0.0}
    from zoo_harness.jobs.lmeval import load_tasks, score_tasks

    tasks, tokenizer = load_tasks(scoring.spec.tasks), scoring.materials.encoder.tokenizer
    (few, cheap), (more, dear) = (
        _priced(scoring, partial(score_tasks, model, tokenizer, tasks, items)) for items in FEW_AND_MORE
    )
    asked, more_asked = (sum(one["n"] or 0 for one in found.values()) for found in (few, more))
    limit = scoring.spec.evaluation.task_items
    left = sum(min(len(task.eval_docs), limit or len(task.eval_docs)) for task in tasks.values()) - more_asked
    items = max(1, more_asked - asked)
    return {
        "seconds": dear["seconds"] + left * max(0.0, dear["seconds"] - cheap["seconds"]) / items,
        "flops": dear["flops"] + left * (dear["flops"] - cheap["flops"]) / items,
    }


def measure_samples(materials: Materials, spec: Spec, rewards: list[str]) -> dict[str, SamplingCost]:
    """Return by reward what calibrating it takes, and under "pairs" what labelling them does, by one batch of each."""
    found = {}
    for reward in rewards:
        sampling = _Sampling(materials, reward)
        rollout = sampling.run.sample(sampling.run.prompts.batch(0, BATCH))
        sampling.run.reward(rollout.samples)
        found[f"calibration {reward}"] = sampling.cost(SAMPLES / BATCH)
    if isinstance(spec.preferences, LabelPairs):
        sampling, made = _Sampling(materials, None), 0
        for _ in labelled(sampling.run, spec.preferences, load_reward(spec.preferences.annotator)):
            if made and sampling.engine.calls > 1:  # all pairs of the batches before are made
                break
            made += 1
        batches = sampling.engine.calls
        found["pairs"] = sampling.cost(spec.preferences.pairs / made * max(1, batches - 1) / batches)
    return found


class _Sampling:
    """Sampling the base outside of training, measured."""

    def __init__(self, materials: Materials, reward_ref: str | None) -> None:
        self.session = unbounded(materials, load_policy(materials.base), reward_ref)
        self.session.rows = materials.signals(("prompts",), materials.spec.first_seed)
        self.tracer = traced(materials, self.session, reward_ref)
        self.engine = self.session.engine = WatchedEngine(self.session.engine)
        self.run = Run(self.session)
        self.began = time.perf_counter()

    def cost(self, times: float) -> SamplingCost:
        """Return what was done as a loop that is done so many times."""
        loop: LoopCost = {
            "most": times,
            "share": 1.0,
            "flops": float(self.session.ledger.flops),
            "seconds": time.perf_counter() - self.began,
            "parts": mean_of([self.tracer.parts]),
            "sampling_steps": self.engine.steps,
        }
        return {"loops": [loop]}
