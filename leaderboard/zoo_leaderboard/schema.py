"""What a bench leaves on disk: the plan (`bench.json`) and one record per cell (`records/*.json`).

Keys beyond these are allowed and kept. Any measured number may be null: it was not or could not be measured.
Units: FLOPs, seconds, bytes, tokens, nats; shares and scores are fractions.
"""

from typing import Annotated, Any, Literal, NotRequired, get_args

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

SCHEMA_VERSION: Literal[1] = 1
"""Version of the files read and of the board written; files of another version are refused."""
BEST_OF = "best-of-"
"""Rows called so answer with the best of several samples of `start`, by the reward."""
IMITATES_CHOSEN = "There are no demonstrations: SFT imitates the chosen answers of the pairs."
"""What plan and board say of a bench of pairs alone."""

Kind = Literal["algorithm", "reference"]


class Base(TypedDict):
    """The base model that every row starts from."""

    ref: str
    sha256: str | None
    parameters: int | None


class ProbedBase(Base):
    """The base model as the probe found it."""

    files: str
    """A hash of all files that can change what the model computes."""
    vocabulary: int
    ends: list[str]
    """Tokens any of which ends a response."""


class DataSet(TypedDict):
    """The rows of one data set that a bench uses, by seed."""

    rows: list[int]
    dropped: list[int]
    """Rows left out because their prompts are too long."""
    alike: list[int]
    """Pairs left out because their answers do not differ as far as they are read."""
    answers: list[int]
    cut: list[int]
    """Answers that are longer than the longest response."""
    sha256: list[str]
    notes: NotRequired[list[str]]
    """From which formats its rows were converted, and which split is read."""


class Environment(TypedDict):
    """What the bits of a result depend on beside the job itself."""

    zoo: str
    torch: str
    transformers: str
    lm_eval: str
    python: str
    platform: str
    device: str
    cpu_capability: str
    meter_version: int


class Planned(TypedDict):
    """One row that the bench set out to fill."""

    row: str
    algorithm: str | None
    settings: dict[str, Any]
    kind: Kind


@with_config(ConfigDict(strict=True, extra="allow"))
class Bench(TypedDict):
    """The plan of a bench."""

    schema_version: Literal[1]
    bench_id: str
    world_id: NotRequired[str]
    """What benches share whose rows can be on one board: base, data, budget, evaluation."""
    grew: NotRequired[bool]
    """Whether rows were added or dropped after the board was first built."""
    name: str
    preset: str | None
    spec: dict[str, Any]
    flops_budget: float
    seeds: Annotated[int, Field(ge=1)]
    base: Base
    tasks: list[Any]
    algorithms: list[Planned]
    command: str | None
    budget_words: NotRequired[float | str]
    """The budget as the user gave it."""
    data: NotRequired[dict[str, DataSet]]
    environment: NotRequired[Environment]


class TaskScore(TypedDict):
    """The score of one lm-eval task; `chance` is that of blind guessing, on a scale that ends at 1."""

    metric: NotRequired[str]
    score: float | None
    stderr: float | None
    chance: Annotated[float, Field(lt=1)] | None
    n: int | None
    is_share: NotRequired[bool]
    """Whether it is a share of right answers, 0 to 1; a perplexity or a length is shown but is no capability."""


class PairAccuracy(TypedDict):
    """How often gold or proxy ranks pairs that it was not trained on as people did; ties count 1/2."""

    accuracy: Annotated[float, Field(ge=0, le=1)]
    shorter: Annotated[float, Field(ge=0, le=1)]
    """Of the baseline by which the shorter answer wins, on the same pairs."""
    pairs: Annotated[int, Field(ge=1)]


class Summary(TypedDict):
    """Means over responses."""

    gold: float | None
    proxy: float | None
    length: float | None
    """Tokens of a response."""
    ended: float | None
    """Share of the responses that ended themselves."""


class BestOf(TypedDict):
    """What the best of n samples are worth."""

    n: float
    kl_bound: float
    proxy: float | None
    gold: float | None


ScoreName = Literal[
    "gold", "gold_best", "proxy", "kl_start", "win_start", "length", "ended", "distinct", "temperature",
    "flops_per_query",
]  # fmt: skip
"""The scores that are one number."""
AVERAGED: tuple[ScoreName, ...] = tuple(
    name for name in get_args(ScoreName) if name not in ("gold_best", "temperature")
)
"""The scores that a row shows as means over its seeds."""


class Objective(TypedDict):
    """What a row was trained for, measured on what it was not given."""

    what: Literal["reward", "loss on demonstrations", "loss on pairs"]
    before: float
    """That of `start`; of a row that selects demonstrations, that of the base."""
    after: float
    better: bool


class Scores(TypedDict):
    """What the scorer found for the final weights, at the row's own best temperature."""

    gold: float | None
    gold_best: float | None
    proxy: float | None
    kl_start: float | None
    kl_start_per_token: float | None
    win_start: float | None
    length: float | None
    ended: float | None
    distinct: float | None
    temperature: float | None
    flops_per_query: float | None
    """What one answer costs; of a best-of-n row all n samples and their scores."""
    pair_accuracy: NotRequired[dict[str, PairAccuracy]]
    """On the row `start` alone: of "gold" and of "proxy"."""
    objective: NotRequired[Objective | None]
    """None where it is not measured: of what is not trained, and of what learns from a judge."""
    best_of_curve: NotRequired[list[BestOf]]
    """Of a best-of-n row: what 1, 2, 4 ... n samples are worth."""
    by_temperature: dict[str, Summary]
    """On dev prompts."""
    tasks: dict[str, TaskScore]
    parts: dict[str, float | None]


class Stage(TypedDict):
    """One stage that was charged to a row before its own training."""

    name: str
    flops: float | None
    seconds: float | None


class Searched(TypedDict):
    """The search that chose the default settings of an algorithm."""

    points: Annotated[int, Field(ge=1)]
    beat_sft: Annotated[int, Field(ge=0)]
    """Points that ended above `sft` of the same budget: how forgiving the algorithm is."""


class Item(TypedDict):
    """One test prompt with the row's answer."""

    prompt: str
    response: str
    gold: float | None
    proxy: float | None
    gold_start: float | None
    ended: NotRequired[bool]
    proxy_start: NotRequired[float | None]


class Point(TypedDict):
    """One point of an unfinished run: a diagnostic, never compared with finished runs."""

    fraction: float
    flops: float | None
    gold: float | None
    proxy: float | None
    kl_start: float | None
    length: float | None


@with_config(ConfigDict(strict=True, extra="allow"))
class Record(TypedDict):
    """What one cell (a row and a seed) ended with."""

    schema_version: Literal[1]
    bench_id: str
    cell_id: str
    row: str
    kind: Kind
    algorithm: str | None
    plugin: str | None
    plugin_version: str | None
    paper: str | None
    settings: dict[str, Any]
    tuning: str | None
    """Where the settings come from: "tuned" (by a search), "paper" or "hand-set"; null where nothing is trained."""
    searched: NotRequired[Searched | None]
    """The search, where they are its winner."""
    learns_from: list[str]
    starts_from: str | None
    reward: str | None
    """The reward that the row learned from."""
    stops_early: str
    """The rule by which the algorithm may end before its budget is spent; empty if it has none."""
    seed: int
    attempt: int
    status: Literal["ok", "failed"]
    error: str | None
    flags: list[str]
    stages: list[Stage]
    flops_budget: float | None
    flops_used: float | None
    flops_by_role_phase: dict[str, float | None]
    audit_ratio: float | None
    labels: dict[str, float | None]
    judge_calls: float | None
    generated_tokens: float | None
    reward_queries: float | None
    optimizer_steps: float | None
    updates: float | None
    wall_seconds: float | None
    peak_memory_bytes: float | None
    models_resident: float | None
    parameter_bytes: float | None
    training_bytes: float | None
    weights_sha256: str | None
    scores: Scores | None
    items: list[Item]
    curve: list[Point]
    environment: dict[str, Any]
