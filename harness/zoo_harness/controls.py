"""Rows that must gain nothing by gold: what is learned from says nothing about what is good.

A bench whose control gains has a gold that rewards a shortcut, or a leak.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, get_args

from zoo_leaderboard.schema import Control

from zoo_core.records import Algorithm
from zoo_core.rows import Preference

if TYPE_CHECKING:
    from zoo_core.reward import Sample

REWARDS: dict[Control, str] = {"length": f"{__name__}:longer", "random": f"{__name__}:noise"}
"""The reward of a control that learns from one."""
NEEDS: dict[Control, str] = {"length": "reward", "random": "reward", "shuffled": "preferences"}
"""What an algorithm must learn from to be trained as a control."""


def longer(samples: Sequence["Sample"]) -> list[float]:
    """Score answers by their length: the longer the better."""
    return [float(len(sample.response)) for sample in samples]


def noise(samples: Sequence["Sample"]) -> list[float]:
    """Score each answer by a standard normal number of its own, the same whenever it is asked."""
    return [random.Random(f"{sample.prompt!r} {sample.response!r}").gauss(0.0, 1.0) for sample in samples]


def shuffled(pairs: Sequence[Preference], seed: int) -> list[Preference]:
    """Turn about half of the pairs round, drawn by the seed."""
    rng = random.Random(f"shuffled labels {seed}")
    return [replace(one, chosen=one.rejected, rejected=one.chosen) if rng.random() < 0.5 else one for one in pairs]


def of(algorithms: Sequence[Algorithm]) -> Iterator[tuple[str, Algorithm, Control]]:
    """Yield name, algorithm and control of the rows to add: each of the first algorithm that can be trained so."""
    for control in get_args(Control):
        able = [one for one in algorithms if NEEDS[control] in one.learns_from]
        if able:
            yield f"{able[0].name}-{control}", able[0], control
