"""The points of a search: the present defaults, then a scrambled Sobol sequence over the space of the plugin."""

import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import optuna
from filelock import FileLock
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState
from pydantic import JsonValue

from zoo_core.errors import SpecError
from zoo_core.records import Choice, Range, Space
from zoo_harness.job import identify

SCRAMBLED_BY = 0
"""The seed of the scrambling: the same space has the same points on every machine."""
DEFAULTS = "defaults"
"""The row of the present defaults."""

Settings = dict[str, JsonValue]


@dataclass(frozen=True)
class Point:
    """One candidate: a row of the benches of a search."""

    row: str
    settings: Settings
    """Of the searched settings; empty for the present defaults."""


def sequence(space: Space, present: Mapping[str, JsonValue], count: int, seed: int) -> list[Settings]:
    """Return so many points of the sequence that `seed` scrambles, numbers rounded to two digits; nothing is kept.

    The sequence begins at its second point, as that of a `Study` does: the place of the first is that of `present`.
    """
    optuna.logging.get_logger("optuna").setLevel(logging.WARNING)
    distributions = {setting: _distribution(values) for setting, values in space.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of the sampler's interface
        study = optuna.create_study(sampler=optuna.samplers.QMCSampler(scramble=True, seed=seed))
        study.enqueue_trial(dict(present))
        trials = [study.ask(distributions) for _ in range(count + 1)]
    return [_rounded(trial.params) for trial in trials[1:]]


class Study:
    """A search that is kept in a folder, so that it goes on where it was stopped; `optuna-dashboard` reads it, too."""

    def __init__(self, folder: Path, name: str, space: Space, present: Mapping[str, JsonValue]) -> None:
        """Open the search of `name` over `space`, whose present defaults are `present`."""
        if not space:
            raise SpecError(
                f"{name} declares no search space; its plugin writes one as `SEARCH` into the configuration class. "
                "`zoo plugins show dpo` shows one."
            )
        optuna.logging.get_logger("optuna").setLevel(logging.WARNING)
        folder.mkdir(parents=True, exist_ok=True)
        file = str(folder / "optuna.log")
        self._lock = FileLock(folder / "optuna.lock", fallback_to_soft=False)
        self._space = {setting: _distribution(values) for setting, values in space.items()}
        self._present = {setting: present[setting] for setting in space}
        with self._lock, warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of the sampler's interface
            self._study = optuna.create_study(
                storage=JournalStorage(JournalFileBackend(file, lock_obj=JournalFileOpenLock(file))),
                sampler=optuna.samplers.QMCSampler(scramble=True, seed=SCRAMBLED_BY),
                study_name=f"{name}-{identify(sorted((setting, repr(values)) for setting, values in space.items()))}",
                direction="maximize",
                load_if_exists=True,
            )

    def points(self, count: int) -> list[Point]:
        """Return the present defaults and `count` points of the sequence, numbers rounded to two digits."""
        with self._lock:
            if not self._study.trials:
                self._study.enqueue_trial(self._present)
            while len(self._study.trials) <= count:
                self._study.ask(self._space)
            trials = self._study.trials[1 : count + 1]
        found = [Point(f"point-{trial.number:02d}", _rounded(trial.params)) for trial in trials]
        return [Point(DEFAULTS, {}), *found]

    def tell(self, values: Mapping[str, float | None]) -> None:
        """Note what points are worth, by row; None where one failed."""
        with self._lock:
            for trial in self._study.trials:
                row = f"point-{trial.number:02d}" if trial.number else DEFAULTS
                if trial.state == TrialState.RUNNING and row in values:
                    value = values[row]
                    state = TrialState.FAIL if value is None else TrialState.COMPLETE
                    self._study.tell(trial.number, value, state)


def _distribution(values: Range | Choice) -> BaseDistribution:
    if isinstance(values, Choice):
        return CategoricalDistribution(values.values)
    if values.whole:
        return IntDistribution(int(values.low), int(values.high), log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)


def _rounded(settings: Mapping[str, JsonValue]) -> Settings:
    """Settings as a person would write them; no result hangs on the third digit of a learning rate."""
    return {
        name: float(f"{value:.2g}") if isinstance(value, float) else value for name, value in sorted(settings.items())
    }
