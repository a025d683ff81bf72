"""What each kind of job is given, typed: the plan writes it, the job reads it, and neither can drift from the other."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue

from zoo_core.rows import Kind as DataKind
from zoo_harness.spec.schema import LabelPairs, Spec

Kind = Literal["probe", "measure", "rehearse", "train", "label_pairs", "calibrate", "score", "held_out"]
"""A kind of job; the module of that name in `zoo_harness.jobs` does it."""
P = TypeVar("P", bound="Payload")


class Payload(BaseModel):
    """What a job is given beside its folder and its needs."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: ClassVar[Kind]

    spec: Spec
    """The bench's spec. A training is not told of gold, tasks or other rows."""

    @classmethod
    def of(cls: type[P], values: Mapping[str, JsonValue]) -> P:
        """Read it from the JSON of a job."""
        return cls.model_validate(values)

    def to_json(self) -> dict[str, JsonValue]:
        """Return it as the JSON of a job."""
        return self.model_dump(mode="json")


class Probing(Payload):
    """What the probe checks."""

    kind = "probe"

    kinds: list[DataKind]
    """The data sets that the bench reads."""
    rewards: list[str]


class Measuring(Payload):
    """A row or a stage whose updates are measured."""

    kind = "measure"

    algorithm: str
    settings: dict[str, JsonValue]
    reward: str | None
    half: str | None
    """Whose half of the preferences is read, where gold is trained on the other."""


class Rehearsing(Payload):
    """What a bench does beside training, of which a little is measured: calibrations, labelling, scoring."""

    kind = "rehearse"

    rewards: list[str]
    half: str | None


class Reading(Payload):
    """What every job that reads rows is given."""

    pairs: Path | None = None
    """The folder of the pairs that the bench made itself."""
    half: str | None = None
    """Whose half of the preferences this is, where gold is trained on the other."""
    shuffled: bool = False
    """Whether half of the pairs are turned round: a control."""
    start: Path | None = None
    """The SFT checkpoint; None if this job begins from the base."""
    reward: str | None = None
    reward_model: Path | None = None
    """The model of a reward that is trained on pairs."""


class Candidate(BaseModel):
    """One trial of a row: settings, and the jobs that say what they are worth."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: dict[str, JsonValue]
    training: Path
    """The folder of the trial's training."""
    training_identity: str
    score: Path
    """The folder of the job that scored it on dev prompts."""
    score_identity: str


class Training(Reading):
    """An algorithm to train, for its whole budget or as a stage."""

    kind = "train"

    algorithm: str
    settings: dict[str, JsonValue]
    budget: float | None = None
    """FLOPs, stages included; None for a stage, whose recipe is of fixed length."""
    budget_share: float = 1.0
    """What they are of the bench's budget."""
    part: float = 1.0
    """What it may spend of what the stages leave of the budget: less than all where trials are charged, too."""
    trial: bool = False
    """Whether it is a trial: only its final weights are looked at."""
    all_audited: bool = False
    """Whether every update is audited, not only the first and those that the seed draws."""
    candidates: list[Candidate] = []
    """The trials before it, of which it takes the settings of the best; none where it has settings of its own."""
    chosen_by: Literal["gold", "proxy"] = "gold"
    """What the best trial is the best by."""
    stages: list[Path] = []
    """The folders of the stages that are charged to this training."""
    calibration: Path | None = None
    session_seed: int | None = None
    """The seed of the training, where it is not the job's."""
    output: Path | None = None
    """The folder of the bench, for logs; None leaves them in the job's."""


class Labelling(Reading):
    """Pairs to make."""

    kind = "label_pairs"

    label_pairs: LabelPairs


class Calibrating(Reading):
    """A reward whose mean and deviation on samples of `start` are measured."""

    kind = "calibrate"


class HoldingOut(Reading):
    """A stage whose loss on unseen rows is measured: a reward model if it has one, else a start."""

    kind = "held_out"


class ToScore(Reading):
    """A model to score."""

    kind = "score"

    weights: Path
    trained: Path | None = None
    """The folder of the training, with its points on the way."""
    best_of: int | None = None
    start_result: Path | None = None
    """The result of scoring `start`."""
    gold_model: Path | None = None
    """The model of a gold that is trained on pairs."""
    calibration: Path | None = None
    stands_on: list[str] = []
    """Identities of the stages that are charged to a row that is only scored."""
    learns_from: list[str] = []
    """What the row learns from, which says what its own objective is; empty for what is not trained."""
    selects: bool = False
    """Whether it learns from demonstrations that it selects, and ends when it has."""
    starts_from: str = ""
    """The stage that the row starts from, or "base"; empty for what is not trained."""
    dev_only: bool = False
    """Whether it is a trial, of which only answers to dev prompts are looked at."""
    algorithm_plugins: list[str] = []
    """Entry points that the scoring process must not load."""
