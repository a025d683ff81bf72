"""The records by which a plugin describes what it brings.

A record holds plain strings: code is named as "module:attribute" and imported when it is first used, so that
listing every installed plugin imports neither torch nor transformers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

API_VERSION = 1
"""Version of the contract between the core and its plugins; raised when a plugin must be changed to go on working."""

Signal = Literal["demonstrations", "preferences", "prompts", "reward", "judge"]


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """One alignment algorithm."""

    name: str
    """What users type: `zoo bench --algorithms ppo`. Lower case, digits and hyphens."""
    summary: str
    """One line for tables."""
    paper: str
    """arXiv id of the defining paper."""
    config: str
    """Path of the settings, a frozen dataclass."""
    train: str
    """Path of the training generator: `train(config, run)` yields metrics once per update."""
    learns_from: tuple[Signal, ...]
    """The signals a run of it is given; it is given no others."""
    starts_from: str = "base"
    """"base", or the name of the algorithm whose stage recipe is run first and charged to this one."""
    makes: str = "policy"
    """"policy", or the name under which it keeps the model that it hands over ("reward": a scorer)."""
    stage: Mapping[str, object] | None = None
    """Settings of the fixed, shorter recipe that runs when others start from this one. None: nothing starts from it."""
    competes: bool = True
    """Whether it is a row of the board; False for algorithms that only prepare stages."""
    by_default: bool = True
    """Whether a bench that names no rows has it as one; False for variants that users ask for by name."""
    reference: bool = False
    """Whether it is a reference row: on every board whose data it can learn from, never ranked."""
    stops_early: str = ""
    """The rule by which it may end before its budget is spent, in words for the board; empty if it has none."""
    api_version: int = API_VERSION
    """The contract it was written for."""

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
    """What users type under `tasks:`."""
    summary: str
    """One line for tables: what is asked and how it is scored."""
    config: str
    """Path of a function `() -> dict`: the task in lm-eval's own configuration words, rows under "custom_dataset"."""
    metric: str = "acc"
    """The metric that the board shows."""
    chance: float = 0.0
    """Score of blind guessing, in the metric's unit."""
    world: str | None = None
    """The world it belongs to: a bench whose base is "<world>:base" asks it unless the spec names tasks."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """A group of subcommands: `zoo <name> ...`."""

    name: str
    """What users type after `zoo`."""
    summary: str
    """One line for `zoo --help`."""
    app: str
    """Path of a `typer.Typer`."""


@dataclass(frozen=True, kw_only=True)
class Executor:
    """A place where the jobs of a bench run."""

    name: str
    """What users type: `zoo bench --executor local`."""
    summary: str
    """One line for tables."""
    run: str
    """Path of a function; `zoo_core.hookspecs.zoo_executors` says what it is given."""
    options: Mapping[str, object] = field(default_factory=dict)
    """Options it understands, with their defaults."""


def load_path(path: str) -> Any:
    """Import what "module:attribute" names."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
