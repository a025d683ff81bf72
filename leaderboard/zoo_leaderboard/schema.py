"""What a bench leaves on disk: the plan (`bench.json`) and one record per cell (`records/*.json`).

Keys beyond these are allowed and kept. Any measured number may be null: it was not or could not be measured.
Units: FLOPs, seconds, bytes, tokens, nats; shares and scores are fractions.
"""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from zoo_leaderboard.scores import Item, Point, Scores

SCHEMA_VERSION: Literal[1] = 1
"""Version of the files read and of the board written; files of another version are refused."""
BEST_OF = "best-of-"
"""Rows called so answer with the best of several samples of `start`, by the reward."""
IMITATES_CHOSEN = "There are no demonstrations: SFT imitates the chosen answers of the pairs."
"""What plan and board say of a bench of pairs alone."""
UNIMPORTANT = {
    "name", "preset", "folder", "checkpoint_seconds", "update_seconds", "tracker", "budget", "algorithms", "references",
    "controls", "budgets", "trials", "seeds", "first_seed",
}  # fmt: skip
"""Keys of a spec that change no result, or are part of a bench's identity in another form."""

Kind = Literal["algorithm", "reference"]
Amount = Annotated[float, Field(ge=0)]
"""What is spent or counted."""
Control = Literal["length", "random", "shuffled"]
"""What a row that should gain nothing by gold learned from: length alone, noise, or labels half of which are wrong."""
Row = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.+-]{0,127}$")]
"""The name of a row, which is part of the names of files."""


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


PER_SEED = ("rows", "dropped", "alike", "answers", "cut", "sha256", "overlap")
"""Lists of a data set that have one entry for each seed."""


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
    overlap: NotRequired[list[int]]
    """Of test prompts: those that are among the rows to learn from, word for word."""
    seeds: NotRequired[list[int]]
    """Of a joined board: the seed of each place in the lists. Left out: they count from the spec's `first_seed`."""
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

    row: Row
    algorithm: str | None
    settings: dict[str, Any]
    kind: Kind
    budget_share: NotRequired[Annotated[float, Field(gt=0)]]
    """Of a row that is not trained with the bench's budget: what it has of it."""
    at_share_of: NotRequired[str | None]
    trials: NotRequired[Annotated[int, Field(ge=2)]]
    """Of a row that is tuned out of its own budget: how many settings it tries."""


class Code(TypedDict):
    """The code of one distribution that took part."""

    version: str
    sha256: str
    """The first 16 digits of the hash of its package's Python and YAML files."""


class Source(TypedDict):
    """A bundle whose rows another bundle took over."""

    name: str
    sha256: str
    """That of its manifest."""
    rows: list[str]


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
    hashes: NotRequired[dict[str, str]]
    """By reference: a hash of each reward, gold, annotator, judge and task."""
    code: NotRequired[dict[str, Code]]
    """By distribution."""
    commit: NotRequired[str | None]
    """That of the harness's checkout, "+" behind it if files differ; null outside git."""
    environment: NotRequired[Environment]
    sources: NotRequired[list[Source]]
    """The bundles that were joined to this one."""


class Stage(TypedDict):
    """One stage that was charged to a row before its own training."""

    name: str
    flops: Amount | None
    seconds: Amount | None


class Searched(TypedDict):
    """The search that chose the default settings of an algorithm."""

    points: Annotated[int, Field(ge=1)]
    beat_sft: Annotated[int, Field(ge=0)]
    """Points that ended above `sft` of the same budget: how forgiving the algorithm is."""


class Checked(TypedDict):
    """What the check of an algorithm found: the suite that every algorithm must pass (`zoo plugins check`)."""

    held: Annotated[int, Field(ge=0)]
    """Laws that hold."""
    tried: Annotated[int, Field(ge=1)]


class Trial(TypedDict):
    """One trial of a row that is tuned out of its own budget."""

    settings: dict[str, Any]
    gold: float | None
    """Mean over answers to dev prompts at the temperature that is best for it; null where it failed."""
    proxy: float | None
    """The same, for the reward that algorithms see."""
    flops: Amount | None
    """What it spent, of the row's budget; null where it was killed and nobody knows."""
    error: str | None


class Trials(TypedDict):
    """The trials that chose the settings of a row and seed; `flops_used` holds what they spent."""

    tried: list[Trial]
    chosen: int | None
    """The place in `tried`, from 0, of the best by gold (by proxy where there is no gold); null where all failed."""
    by_proxy: int | None
    """That of the best by proxy: which a user without gold would have chosen."""


Tier = Literal["self-reported", "recomputed", "re-run"]
"""How far a row was checked: not at all; its numbers were computed again from its answers and its ledger, by whoever
joined bundles; another person trained it again, on the same seeds, and got the same weights."""


@with_config(ConfigDict(strict=True, extra="allow"))
class Record(TypedDict):
    """What one cell (a row and a seed) ended with."""

    schema_version: Literal[1]
    bench_id: str
    cell_id: str
    row: Row
    kind: Kind
    algorithm: str | None
    plugin: str | None
    plugin_version: str | None
    paper: str | None
    settings: dict[str, Any]
    """What was set by hand, or chosen by `trials`; the defaults are in `all_settings`."""
    all_settings: NotRequired[dict[str, Any]]
    """All that it trained with, the defaults of its plugin too; empty where nothing was trained."""
    files: NotRequired[dict[str, str]]
    """Hash of each file, or of the files of a model, that a setting names: a constitution, a teacher."""
    tuning: str | None
    """Where the settings come from: "tuned" (by a search), "tuned here" (by `trials`, which are charged), "paper" or
    "hand-set"; null where nothing is trained."""
    searched: NotRequired[Searched | None]
    """The search, where they are its winner."""
    checked: NotRequired[Checked | None]
    """The check of exactly the code that was trained; null or left out where there was none."""
    trials: NotRequired[Trials | None]
    """Of a row that is tuned out of its own budget; its costs are sums over them and the run with what they chose."""
    learns_from: list[str]
    starts_from: str | None
    reward: str | None
    """The reward that the row learned from."""
    control: NotRequired[Control | None]
    """What it learned from in place of the bench's reward or labels, so that it should gain nothing by gold."""
    budget_share: NotRequired[Annotated[float, Field(gt=0)]]
    """What it was given of the bench's budget, as a whole run of its own; left out, 1."""
    at_share_of: NotRequired[str | None]
    """The row that it is at another share of the budget; null where it has none or is at 1."""
    stops_early: str
    """The rule by which the algorithm may end before its budget is spent; empty if it has none."""
    seed: int
    attempt: int
    status: Literal["ok", "failed"]
    error: str | None
    flags: list[str]
    stages: list[Stage]
    flops_budget: Amount | None
    flops_used: Amount | None
    flops_by_role_phase: dict[str, Amount | None]
    audit_ratio: float | None
    labels: dict[str, Amount | None]
    judge_calls: Amount | None
    generated_tokens: Amount | None
    reward_queries: Amount | None
    optimizer_steps: Amount | None
    updates: Amount | None
    wall_seconds: Amount | None
    peak_memory_bytes: Amount | None
    models_resident: Amount | None
    parameter_bytes: Amount | None
    training_bytes: Amount | None
    weights_sha256: str | None
    scores: Scores | None
    items: list[Item]
    curve: list[Point]
    environment: dict[str, Any]
    start: NotRequired[str]
    """The row that it started from, where bundles with different starts were joined; else `start`."""
    tier: NotRequired[Tier]
    """Set where bundles are joined."""
