"""The records by which a plugin describes what it provides, and those that plugins which watch a training are given.

A plugin's record holds plain strings: code is named as "module:attribute" and imported when it is first used, so that
listing every installed plugin imports neither torch nor transformers.
"""

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

API_VERSION = 1
"""Version of the contract between core and plugins. It is raised when plugins must be changed to go on working."""

Signal = Literal["demonstrations", "preferences", "prompts", "reward", "judge"]


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """One alignment algorithm."""

    name: str
    """The name that users type: `zoo bench --algorithms ppo`. Lower case, digits and hyphens."""
    summary: str
    """One line for tables."""
    paper: str
    """arXiv id of the paper that defines it."""
    config: str
    """Path ("module:attribute") of its settings, a frozen dataclass."""
    train: str
    """Path of its training generator: `train(config, run)` yields metrics once per update."""
    learns_from: tuple[Signal, ...]
    """The signals that its runs are given. `run` refuses all others."""
    starts_from: str = "base"
    """The model that it trains: "base", or the algorithm whose stage recipe runs first and is charged to this one."""
    makes: str = "policy"
    """"policy", or the name that it gives to `run.keep` for the model that it hands over ("reward": a scorer)."""
    untrained: str | None = None
    """Path of `untrained(config, policy, seed)`: a reward that it makes, before training, to measure what it costs."""
    stage: Mapping[str, object] | None = None
    """Settings of the fixed recipe that runs when others start from this algorithm. None: no other can do so."""
    competes: bool = True
    """Whether it can be a row of a board. False for algorithms that only prepare a stage."""
    by_default: bool = True
    """Whether a bench that names no rows includes it. False for variants that users ask for by name."""
    reference: bool = False
    """Whether it is a reference row: on every board whose data it can learn from, and never ranked."""
    stops_early: str = ""
    """The rule by which it may end before its budget is spent, in words for the board; empty without such a rule."""
    api_version: int = API_VERSION
    """The version of the plugin contract that it was written for."""

    def load_config(self) -> type:
        """Import and return the settings class."""
        return load_path(self.config)  # type: ignore[no-any-return]

    def load_train(self) -> Any:
        """Import and return the training generator."""
        return load_path(self.train)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One lm-eval task."""

    name: str
    """The name that users type under `tasks:`."""
    summary: str
    """One line for tables: what the task asks and how it scores answers."""
    config: str
    """Path of a function `() -> dict`: the task as an lm-eval configuration, with its rows under "custom_dataset"."""
    metric: str = "acc"
    """The metric that the board shows."""
    chance: float = 0.0
    """The score of blind guessing, in the unit of the metric."""
    world: str | None = None
    """The world it belongs to. A bench whose base is "<world>:base" runs it, unless the spec names its tasks."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """A group of subcommands: `zoo <name> ...`."""

    name: str
    """The word that users type after `zoo`."""
    summary: str
    """One line for `zoo --help`."""
    app: str
    """Path of a `typer.Typer`."""


@dataclass(frozen=True, kw_only=True)
class Executor:
    """A place where the jobs of a bench run."""

    name: str
    """The name that users type: `zoo bench --executor local`."""
    summary: str
    """One line for tables."""
    run: str
    """Path of the function that runs the jobs; `zoo_core.hookspecs.zoo_executors` describes its arguments."""
    options: Mapping[str, object] = field(default_factory=dict)
    """The options that users can set by `--option KEY=VALUE`, with their defaults."""


@dataclass(frozen=True, kw_only=True)
class Tracker:
    """A place where the observers of a plugin write how trainings go."""

    name: str
    """The word that users write in a spec: `tracker: tensorboard`. The observers find it in `Training.tracker`."""
    summary: str
    """One line for tables."""
    module: str
    """The package that must be importable, "tensorboard"; a bench whose spec asks for the tracker needs it."""
    install: str
    """What pip installs to bring that package: "zoo-trackers[tensorboard]"."""


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`, both included."""

    low: int | float
    high: int | float
    log: bool = False
    """Whether each factor counts alike, not each difference."""
    whole: bool = False
    """Whether the setting is a whole number."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"low={self.low} must be below high={self.high}, both finite.")
        if self.log and self.low <= 0:
            raise ValueError(f"low={self.low} must be above 0 where log is true.")
        if self.whole and not (float(self.low).is_integer() and float(self.high).is_integer()):
            raise ValueError(f"low={self.low} and high={self.high} must be whole numbers where whole is true.")

    def __contains__(self, value: object) -> bool:
        """Whether a setting may be given this value."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    def __str__(self) -> str:
        """Describe it in words."""
        kind = " ".join(word for word, applies in (("whole", self.whole), ("log", self.log)) if applies)
        return f"{self.low:g} to {self.high:g}{f' ({kind})' if kind else ''}"


@dataclass(frozen=True)
class Choice:
    """These values and no others, in their order."""

    values: tuple[bool | int | float | str | None, ...]

    def __post_init__(self) -> None:
        if len(self.values) < 2:
            raise ValueError(f"values={self.values} must be two or more: there is nothing to choose.")

    def __contains__(self, value: object) -> bool:
        """Whether a setting may be given this value."""
        return value in self.values

    def __str__(self) -> str:
        """Describe it in words."""
        return ", ".join(map(str, self.values))


Space = Mapping[str, Range | Choice]
"""By setting: the values to search among."""

LEARNING_RATES = Range(1e-5, 1e-2, log=True)
"""The same three decades for every algorithm, so that none is helped by a narrower range."""


_RANGES = (
    ("above 0", math.ulp(0), math.inf, "beta|tau|temperature|epochs|max_grad_norm|ratio_scale|weight_cap"),
    ("above 0", math.ulp(0), math.inf, "clip_range(_low|_high)?|kl_(target|horizon)"),
    ("0 or more", 0, math.inf, "learning_rate|weight_decay|coefficient|weight|penalty"),
    ("above 0 and at most 1", math.ulp(0), 1, "share|discount|gae_lambda"),
)
"""Ranges of settings that mean the same in every algorithm, by what their names are or end with."""


def check_ranges(settings: Any, but: Collection[str] = ()) -> None:
    """Raise `ValueError` for a number out of its range in `_RANGES`; a dataclass calls this in its `__post_init__`.

    Whole numbers are counts. None is in every range; the settings in `but` have ranges of their own.
    """
    for one in fields(settings):
        if (value := getattr(settings, one.name)) is None or one.name in but:
            continue
        if one.type in (int, int | None) and value < 1:
            raise ValueError(f"{one.name}={value} must be 1 or more.")
        for words, low, high, names in _RANGES:
            if re.search(f"(^|_)({names})$", one.name) and not low <= value <= high:
                raise ValueError(f"{one.name}={value} must be {words}.")


@dataclass(frozen=True)
class Defaults:
    """Where the default settings of an algorithm come from."""

    source: Literal["hand-set", "paper", "tuned"] = "hand-set"
    points: int = 0
    """Points of the search that chose them."""
    beat_sft: int | None = None
    """Those of them that ended above `sft` in that search: how forgiving the algorithm is; None for a stage."""

    def __post_init__(self) -> None:
        if not 0 <= (self.beat_sft or 0) <= self.points or (self.source == "tuned") != bool(self.points):
            raise ValueError(
                f"points={self.points} and beat_sft={self.beat_sft} must be those of the search of tuned defaults, "
                f"and 0 points for {self.source!r} ones."
            )


class _ReadOnly:
    """What observers are given. No mapping in it can be changed, so that no observer changes a training."""

    def __post_init__(self) -> None:
        for one in fields(self):  # type: ignore[arg-type]  # its subclasses are dataclasses
            object.__setattr__(self, one.name, _read_only(getattr(self, one.name)))


@dataclass(frozen=True, kw_only=True)
class Training(_ReadOnly):
    """A training that is watched: a cell (one row with one seed), or a stage that cells stand on."""

    name: str
    """Its name, which no other training of the bench has: "dpo-seed0", or "stages/sft-seed0"."""
    row: str
    """The row of the board; "" for a stage."""
    stage: str
    """What a bench calls the stage: "sft", "gold" (a gold that is trained on pairs); "" for a cell."""
    seed: int
    algorithm: str
    """The name of the algorithm that trains."""
    settings: Mapping[str, object]
    """All settings of the algorithm, defaults among them."""
    budget: float | None
    """FLOPs, stages included; None for a stage, whose recipe is of fixed length."""
    identity: str
    """Hash of all that the result depends on. Two trainings of the same identity end with the same bits."""
    directory: Path
    """The folder of the training."""
    bench: str
    """The name of the bench."""
    output: Path
    """The folder of the bench; logs belong there."""
    tracker: str | None
    """The tracker that the spec asks for."""


@dataclass(frozen=True, kw_only=True)
class Progress(_ReadOnly):
    """How far a training is, in one of its updates."""

    update: int
    """Its number, from 0, over all loops of the algorithm. A resumed training goes on from its checkpoint's number."""
    stage: str
    """The stage of the algorithm's own (`run.stage`) that the update belongs to; "" where there is none."""
    flops: int
    """FLOPs so far, those of the stages that a cell stands on included."""
    share: float | None
    """Share of the budget that they are; None for a stage, which has no budget."""
    metrics: Mapping[str, float]
    """What the algorithm yielded."""


@dataclass(frozen=True, kw_only=True)
class Finished(_ReadOnly):
    """What a training left."""

    weights: Path
    """The folder of the final model."""
    weights_sha256: str
    updates: int
    """The number of updates that count."""
    flops: int
    """FLOPs in all, those of the stages that a cell stands on included."""
    ledger: Mapping[str, object]
    """All costs of the training itself, as `zoo_core.accounting.report.LedgerReport` describes them."""


def _read_only(value: Any) -> Any:
    """Return a copy of mappings and lists, at any depth, that cannot be changed; other values as they are."""
    if isinstance(value, Mapping):
        return MappingProxyType({key: _read_only(one) for key, one in value.items()})
    return tuple(map(_read_only, value)) if isinstance(value, list | tuple) else value


def load_path(path: str) -> Any:
    """Import and return the attribute that "module:attribute" names."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
