"""How long a bench will still take, by what its jobs were planned to take and what those that ended took."""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

MINUTE, HOUR = 60, 3600


@dataclass(frozen=True)
class Expected:
    """What a job was planned to take."""

    kind: str
    """Jobs of one kind are faster or slower than planned by one factor."""
    seconds: float | None
    """None if nothing was measured to plan by."""


@dataclass(frozen=True)
class UnderWay:
    """How far a job is that runs."""

    elapsed: float
    """Seconds."""
    share: float | None = None
    """What is done of it, if that is known."""


class TimeLeft:
    """The jobs of a bench that have not ended, and by what factor each kind of job differs from its plan.

    A kind of which nothing was planned is taken to go on as it did on average.
    """

    def __init__(self, jobs: Mapping[str, Expected], workers: int) -> None:
        self.waiting = dict(jobs)
        self.workers = workers
        self._planned: dict[str, list[float]] = defaultdict(list)
        self._took: dict[str, list[float]] = defaultdict(list)

    def ended(self, name: str, seconds: float | None = None, before: float = 0.0) -> None:
        """Take a job off the list; `seconds` are what it took now, `before` the share that was done already."""
        job = self.waiting.pop(name, None)
        if job is None or seconds is None or before >= 1:
            return
        self._took[job.kind].append(seconds)
        if job.seconds is not None:
            self._planned[job.kind].append(job.seconds * (1 - before))

    def seconds(self, running: Mapping[str, UnderWay] | None = None) -> float | None:
        """Return the seconds until the last job ends; None if a job is left of which nothing is known.

        All workers are busy until then, or the longest job outlasts the others.
        """
        known = running or {}
        left = [self._left(job, known.get(name)) for name, job in self.waiting.items()]
        if any(math.isnan(seconds) for seconds in left):
            return None
        return max(sum(left) / self.workers, max(left, default=0.0))

    def _left(self, job: Expected, way: UnderWay | None) -> float:
        whole = self._whole(job)
        if way is None:
            return whole
        return whole * (1 - min(1.0, way.share)) if way.share is not None else max(0.0, whole - way.elapsed)

    def _whole(self, job: Expected) -> float:
        """Seconds of a whole job; not a number if nothing is known."""
        took, planned = self._took[job.kind], self._planned[job.kind]
        if job.seconds is None:
            return sum(took) / len(took) if took else math.nan
        return job.seconds * (sum(took) / sum(planned) if len(took) == len(planned) > 0 < sum(planned) else 1.0)


def in_words(seconds: float | None) -> str:
    """Return "about 6 min left", or nothing where nothing is known."""
    if seconds is None:
        return ""
    if seconds < MINUTE:
        return "less than 1 min left"
    if seconds < 2 * HOUR:
        return f"about {math.ceil(seconds / MINUTE)} min left"
    return f"about {seconds / HOUR:.1f} h left"
