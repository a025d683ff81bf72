"""What `zoo plugins show NAME` says of an algorithm: its settings, their defaults, and what a search tries."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TypedDict

from rich.table import Table
from zoo_leaderboard.columns import Column
from zoo_leaderboard.terminal import fitted

from zoo_core.records import Choice, Range
from zoo_core.registry.plugins import plugins
from zoo_core.registry.spaces import defaults_of, space_of
from zoo_harness.spec.settings import configure

INSTEAD = "give a wider terminal or --json"


class Setting(TypedDict):
    """One setting of an algorithm."""

    name: str
    default: object
    search: dict[str, object] | None
    """What a search tries, as `zoo_core.records.Range` or `Choice` hold it; None if it keeps the default."""
    words: str
    """The same for people."""


class Described(TypedDict):
    """An algorithm as its plugin declares it."""

    algorithm: str
    plugin: str
    summary: str
    paper: str
    learns_from: Sequence[str]
    stage: Mapping[str, object] | None
    """The recipe by which it makes a stage for others."""
    defaults: dict[str, object]
    """Where the defaults come from."""
    settings: list[Setting]


def described(name: str) -> Described:
    """Describe an installed algorithm; `SpecError` for an unknown one, `PluginError` for a space that cannot be."""
    algorithm = plugins().algorithm(name)
    owner, present = plugins().owner("zoo_algorithms", name), configure(algorithm, {})
    space = space_of(type(present), name)
    return {
        "algorithm": name,
        "plugin": f"{owner.distribution} {owner.version}",
        "summary": algorithm.summary,
        "paper": algorithm.paper,
        "learns_from": algorithm.learns_from,
        "stage": algorithm.stage,
        "defaults": dataclasses.asdict(defaults_of(type(present))),
        "settings": [_setting(setting, value, space.get(setting)) for setting, value in vars(present).items()],
    }


def settings_table(found: Described, room: int) -> Table:
    """Return the settings, at most `room` wide."""
    source, points = found["defaults"]["source"], found["defaults"]["points"]
    beat = found["defaults"]["beat_sft"]
    forgiving = "" if beat is None else f", {beat} of {points} points of the search above sft"
    about = f"{found['algorithm']} ({found['plugin']}): {found['summary']}. arXiv:{found['paper']}"
    title = f"{about}. Defaults: {source}{forgiving}"
    columns = [
        Column("setting", lambda one: one["name"], left=True),
        Column("default", lambda one: str(one["default"]), left=True),
        Column("searched", lambda one: one["words"], left=True),
    ]
    return fitted(columns, [found["settings"]], room, title=title, dispensable=(), instead=INSTEAD)


def _setting(name: str, default: object, values: Range | Choice | None) -> Setting:
    search = None if values is None else dataclasses.asdict(values)
    return {"name": name, "default": default, "search": search, "words": "" if values is None else str(values)}
