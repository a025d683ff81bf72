"""Rewards are functions of text, so that a scorer with any architecture and tokenizer serves any policy."""

import json
import math
import reprlib
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from zoo_core.errors import SpecError, ZooError
from zoo_core.rows import Columns, Preference, Text
from zoo_core.storage.atomic import write_text

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Sample:
    """A prompt and one response to it, as text."""

    prompt: Text
    response: str
    ended: bool
    """Whether the policy ended the response itself; False if it was cut off at the longest length."""
    row: Mapping[str, object] = field(default_factory=Columns, hash=False, repr=False)
    """All columns of the row that the prompt came from, as its file has them; empty for a prompt from no file."""


Reward = Callable[[Sequence[Sample]], Sequence[float]]
"""A function of samples that returns one score per sample; higher is better."""

NEEDED = "it must return one finite number per sample"
CALIBRATION = "calibration.json"


@dataclass(frozen=True)
class Calibration:
    """Mean and standard deviation of a reward on samples of `start`. Algorithms see scores in these units."""

    mean: float
    deviation: float

    def save(self, directory: Path) -> None:
        """Write mean and deviation into the directory of the scorer that they belong to."""
        write_text(directory / CALIBRATION, json.dumps({"mean": self.mean, "deviation": self.deviation}))

    @classmethod
    def load(cls, directory: Path) -> "Calibration":
        """Read mean and deviation from the directory of a scorer."""
        return cls(**json.loads((directory / CALIBRATION).read_text()))


def as_sample(prompt: Text, answer: Text, row: Mapping[str, object] | None = None) -> Sample:
    """Return an answer of a data set as a sample. The last of several messages is the response."""
    columns = Columns() if row is None else row
    if isinstance(prompt, str) or isinstance(answer, str):
        return Sample(prompt, str(answer), ended=True, row=columns)
    return Sample([*prompt, *answer[:-1]], answer[-1]["content"], ended=True, row=columns)


def checked(reward: Reward, samples: Sequence[Sample]) -> list[float]:
    """Return the scores of samples under a reward; `SpecError` unless it gives one finite number per sample."""

    def scores_of() -> object:
        given = reward(samples)
        return list(given) if isinstance(given, Iterable) else given

    given = asked(scores_of, f"the reward {name_of(reward)}", reward)
    if not isinstance(given, list):
        raise SpecError(f"the reward {name_of(reward)} gave {reprlib.repr(given)}; {NEEDED}.")
    if len(given) != len(samples):
        raise SpecError(f"the reward {name_of(reward)} gave {len(given)} scores for {len(samples)} samples; {NEEDED}.")
    scores = []
    for number, one in enumerate(given, start=1):
        try:
            score = float(one)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            raise SpecError(
                f"the reward {name_of(reward)} gave {reprlib.repr(one)} for sample {number}; {NEEDED}."
            ) from None
        if not math.isfinite(score):
            raise SpecError(f"the reward {name_of(reward)} gave the score {score}; {NEEDED}.")
        scores.append(score)
    return scores


def name_of(function: object) -> str:
    """Return "module:name" of a function, or of the class of an object that is not a function."""
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}:{named.__qualname__}"


def asked(ask: Callable[[], Answer], what: str, function: object) -> Answer:
    """Call a user's function; an exception becomes a `SpecError` that says `what` failed and at which line."""
    try:
        return ask()
    except ZooError:
        raise
    except Exception as error:
        module = getattr(function, "__module__", None) or type(function).__module__
        if module.partition(".")[0] == "zoo_core":
            raise  # a fault of ours keeps its traceback
        file = getattr(sys.modules.get(module), "__file__", None)
        frames = traceback.extract_tb(error.__traceback__)
        place = next((frame for frame in reversed(frames) if frame.filename == file), frames[-1])
        raise SpecError(
            f"{what} raised {type(error).__name__}: {error} ({place.filename}:{place.lineno}). Mend it there; {NEEDED}."
        ) from error


def pair_accuracy(reward: Reward, pairs: Sequence[Preference]) -> float:
    """Return the share of pairs whose chosen answer scores higher; a tie counts 1/2. All answers count as ended."""
    both = [(pair, text) for pair in pairs for text in (pair.chosen, pair.rejected)]
    scores = checked(reward, [as_sample(pair.prompt, text, pair.columns) for pair, text in both])
    won = [
        float(chosen > rejected) + 0.5 * float(chosen == rejected)
        for chosen, rejected in zip(scores[::2], scores[1::2], strict=True)
    ]
    return sum(won) / len(won)
