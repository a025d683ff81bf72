"""What each kind of job leaves in its result.json, typed for those who read it.

A result is read only by a job or a bench whose identity names the code that wrote it, so its shape is known.
"""

from typing import NotRequired, TypedDict, cast

from pydantic import JsonValue
from zoo_leaderboard.schema import DataSet, Environment, ProbedBase
from zoo_leaderboard.scores import Item, Point, Scores, Summary

from zoo_core.accounting.report import LedgerReport
from zoo_harness.job import Job

POINTS = (0.25, 0.5, 0.75)
"""Shares of the budget at which a training keeps weights for the curve, beside the end."""
PartCost = tuple[str, str, str, float]
"""FLOPs of one part of a model: role, phase, part (see `zoo_harness.jobs.trace`), FLOPs."""


class LoopCost(TypedDict):
    """What one update of a loop costs."""

    most: float | None
    """Updates that the loop is bounded by."""
    share: float
    """The loop's part of the budget."""
    flops: float
    seconds: float
    parts: list[PartCost]
    sampling_steps: float


class Held(TypedDict):
    """Bytes by part of a model."""

    weights: dict[str, int]
    gradients: dict[str, int]
    states: dict[str, int]
    undo: dict[str, int]
    activations: dict[str, int]


class SamplingCost(TypedDict):
    """What a stage without updates costs, as a loop."""

    loops: list[LoopCost]


class Cost(SamplingCost):
    """What the updates of a row or of a stage cost, measured."""

    opening_seconds: float
    """From the start of the process to the first update."""
    prepare_flops: float
    prepare_parts: list[PartCost]
    memory_bytes: int
    """At most, of one process, above what it held before it opened anything."""
    processes: int
    """How many shared an update, because one had too little memory."""
    models_resident: float
    checkpoint_bytes: int
    held: Held
    cached_tokens: int
    """Tokens in the key-value cache, at most."""
    sampled_at_once: int
    """Rows that are sampled at once, at most."""


class Cut(TypedDict):
    """How many prompts a scorer cannot read whole."""

    context: int
    prompts: int
    cut: int


class Checked(TypedDict):
    """What the probe found."""

    identity: str
    base_path: str
    bytes_per_weight: int
    base: ProbedBase
    data: dict[str, DataSet]
    hashes: dict[str, str]
    """By reference: a hash of each reward, gold, annotator, judge and task."""
    cut_by_scorers: dict[str, Cut]
    environment: Environment
    seconds: float
    """How long this took."""


class Measured(TypedDict):
    """What measuring a row or a stage leaves."""

    identity: str
    cost: Cost
    seconds: float


class Price(TypedDict):
    """What doing something once costs."""

    seconds: float
    flops: float


class ScoringCost(TypedDict):
    """What scoring a model takes."""

    opening_seconds: float
    """From the start of the process until base, start, gold and proxy are loaded."""
    loading_seconds: float
    """Loading the weights of one more model."""
    answer: Price
    """One answer, sampled and scored by gold and proxy."""
    answer_of_several: Price
    """One of several answers to a prompt, of which the proxy chooses: they share the reading of the prompt."""
    divergence: Price
    """The KL of one answer from `start`."""
    tasks: Price
    """All items of the lm-eval tasks."""


class Rehearsed(TypedDict):
    """What a rehearsal leaves."""

    identity: str
    samples: dict[str, SamplingCost]
    """By "calibration REWARD", and of "pairs"."""
    scoring: ScoringCost
    seconds: float


class Probe(Checked):
    """All that a plan is made from: what was found, and what everything costs."""

    costs: dict[str, Cost]
    """By row, and by "stage NAME"."""
    samples: dict[str, SamplingCost]
    scoring: ScoringCost


class WeightsAt(TypedDict):
    """Weights that were kept in the middle of a run."""

    fraction: float
    """Share of the budget that was spent."""
    flops: int
    weights: str
    """Name of the folder beside the result."""


class Begun(TypedDict):
    """What a job notes when it begins."""

    identity: str
    attempts: int
    gpu: NotRequired[str | None]
    """Where it runs, if an executor gave it one."""


class Progress(TypedDict, total=False):
    """How far a running job is, for the screen."""

    flops: int
    budget: float | None
    """FLOPs that are spent when it ends."""
    before: int
    """FLOPs that were spent when it began, by stages and trials."""
    updates: int
    metrics: dict[str, float]
    doing: str
    time: float


class Staged(TypedDict):
    """What calibrating and labelling leave."""

    identity: str
    ledger: LedgerReport


class Spent(TypedDict):
    """What a trial that failed leaves of its costs."""

    identity: str
    ledger: LedgerReport


class Tried(TypedDict):
    """What one trial was worth."""

    settings: dict[str, JsonValue]
    gold: float | None
    """Mean over answers to dev prompts, at the temperature at which it is highest; None where it failed."""
    proxy: float | None
    """The same, for the reward that algorithms see."""
    error: str | None
    ledger: LedgerReport | None
    """Its costs; None where its process was killed, or never began to train."""


class Choice(TypedDict):
    """What all trials of a row and seed were worth, and which was chosen."""

    tried: list[Tried]
    chosen: int
    """The place of the best in `tried`, from 0."""
    by_proxy: int | None
    """That of the best by proxy."""


class Trained(Staged):
    """What a training leaves."""

    algorithm: str
    seed: int
    points: list[WeightsAt]
    weights_sha256: str
    environment: Environment
    observer_failures: list[str]
    choice: NotRequired[Choice]
    """Where trials chose the settings."""


class ScoredOnDev(TypedDict):
    """What scoring a trial leaves."""

    identity: str
    by_temperature: dict[str, Summary]
    weights_sha256: str
    environment: Environment


class Scored(TypedDict):
    """What scoring leaves."""

    identity: str
    scores: Scores
    items: list[Item]
    curve: list[Point]
    weights_sha256: str
    environment: Environment


class HeldOut(TypedDict):
    """What measuring a stage on unseen rows leaves."""

    identity: str
    loss: float
    """Nats: of a pair of answers, or of a token of a demonstration."""
    rows: int


def checked(job: Job) -> Checked | None:
    """Return what the probe found, if it is done."""
    return cast(Checked | None, job.result())


def measured(job: Job) -> Measured | None:
    """Return what a row or a stage costs, if that was measured."""
    return cast(Measured | None, job.result())


def rehearsed(job: Job) -> Rehearsed | None:
    """Return what is done beside training costs, if that was measured."""
    return cast(Rehearsed | None, job.result())


def staged(job: Job | None) -> Staged | None:
    """Return what a stage left, if it is done."""
    return cast(Staged | None, job.result() if job else None)


def trained(job: Job | None) -> Trained | None:
    """Return what a training left, if it is done."""
    return cast(Trained | None, job.result() if job else None)


def held_out(job: Job) -> HeldOut | None:
    """Return the loss of a stage on unseen rows, if it was measured."""
    return cast(HeldOut | None, job.result())


def scored(job: Job) -> Scored | None:
    """Return what scoring left, if it is done."""
    return cast(Scored | None, job.result())
