"""The records by which a plugin describes its algorithms, tasks, commands and executors.

A record holds plain strings: code is named as "module:attribute" and imported when it is first used, so that
listing every installed plugin imports neither torch nor transformers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
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


def load_path(path: str) -> Any:
    """Import and return the attribute that "module:attribute" names."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
