"""Which job is done next, which again, and which not at all: the same for every executor."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

from filelock import Timeout

from zoo_core.errors import StorageError
from zoo_harness.job import BUSY, Job, Outcome

ATTEMPTS = 2
"""Times a job is started whose process was killed from outside; its seed stays the same."""

LOOK_AGAIN_SECONDS = 1.0
"""Between two looks at a job that another bench holds."""

Finished = Callable[[Job, Outcome], None]
Watch = Callable[[Sequence[Job]], None]


@dataclass(frozen=True)
class Exit:
    """How the process of a job ended."""

    code: int | None = None
    """Its exit code, if it ended by itself."""
    killed: str = ""
    """What ended it from outside: "was killed by SIGKILL (out of memory, or killed from outside)"."""
    again: bool = True
    """Whether a job that was killed may have more luck when it is started again."""


H = TypeVar("H")


@runtime_checkable
class Place(Protocol[H]):
    """Where the processes of jobs run; `H` is its handle of one. All that an executor must bring."""

    def start(self, job: Job) -> H:
        """Start `zoo_harness.jobs.worker.main` with the job's file."""

    def pause(self, running: Sequence[H]) -> None:
        """Return when one of them may have ended, after a second at the latest."""

    def ended(self, running: H) -> bool:
        """Whether it ended."""

    def exit(self, ended: H) -> Exit:
        """How it ended."""

    def stop(self, running: Sequence[H]) -> None:
        """End them; each has a checkpoint to go on from."""


def run(place: Place[Any], jobs: Sequence[Job], finished: Finished, workers: int, watch: Watch) -> None:
    """Run jobs whose needs are met, until none is left that can run. An exception, as Ctrl-C, stops what runs.

    `finished(job, outcome)` is called once per job, `watch(running)` about once a second or more often. A job that
    needs one that failed ends as failed without being tried; one that is only `after` it is tried. Several benches may
    do this with one output folder: a job that another holds is left to it, and its result is taken as it comes; if the
    other is gone, the job is taken over.
    """
    _Schedule(place, jobs, finished, workers).run(watch)


class _Schedule(Generic[H]):
    def __init__(self, place: Place[H], jobs: Sequence[Job], finished: Finished, workers: int) -> None:
        self.place, self.finished, self.workers = place, finished, workers
        self.waiting = list(jobs)
        self.running: dict[str, tuple[Job, H]] = {}
        self.elsewhere: dict[str, tuple[Job, float]] = {}
        """Jobs that another bench holds, and when each was looked at."""
        self.ended: dict[str, Outcome] = {}
        self.attempts: dict[str, int] = {}

    def run(self, watch: Watch) -> None:
        try:
            while self.waiting or self.running:
                for job in list(self.waiting):
                    self._consider(job)
                self.place.pause([handle for _, handle in self.running.values()])
                watch([job for job, _ in [*self.running.values(), *self.elsewhere.values()]])
                for job, handle in list(self.running.values()):
                    if self.place.ended(handle):
                        del self.running[job.identity]
                        self._close(job, handle)
        finally:
            self.place.stop([handle for _, handle in self.running.values()])

    def _consider(self, job: Job) -> None:
        """End a waiting job if its outcome is known, or start it if it can be started now."""
        broken = [need for need in job.needs if need in self.ended and self.ended[need].status != "ok"]
        if broken:
            self._end(job, self.ended[broken[0]])
        elif all(one in self.ended for one in (*job.needs, *job.after)):
            outcome = known_outcome(job)
            if outcome is not None:
                self._end(job, outcome)
            elif self._is_room_for(job) and self._is_free(job):
                self.waiting.remove(job)
                self.attempts[job.identity] = self.attempts.get(job.identity, 0) + 1
                job.write()
                self.running[job.identity] = job, self.place.start(job)

    def _is_room_for(self, job: Job) -> bool:
        """Whether a job may be started beside those that run; one that is too large for all of them runs alone."""
        busy = sum(running.processes for running, _ in self.running.values())
        return busy == 0 or busy + job.processes <= self.workers

    def _is_free(self, job: Job) -> bool:
        now = time.monotonic()
        _, looked = self.elsewhere.get(job.identity, (job, -LOOK_AGAIN_SECONDS))
        if now - looked < LOOK_AGAIN_SECONDS:
            return False
        if _is_held(job):
            self.elsewhere[job.identity] = job, now
            return False
        self.elsewhere.pop(job.identity, None)
        return True

    def _close(self, job: Job, handle: H) -> None:
        """Take a job whose process ended: done, failed, or to be started again."""
        outcome = known_outcome(job)
        if outcome is None:
            job.look_again()
            outcome = known_outcome(job)
        if outcome is None:
            exit_ = self.place.exit(handle)
            # Another bench was faster; a launcher has its own code for it. What was killed may still hold its lock.
            if exit_.code == BUSY or (not exit_.killed and _is_held(job)):
                self.attempts[job.identity] -= 1
                self.waiting.insert(0, job)
                return
            if exit_.killed and exit_.again and self.attempts[job.identity] < ATTEMPTS:
                self.waiting.insert(0, job)  # not the algorithm's fault: again, from its last checkpoint
                return
            outcome = _without_a_word(job, exit_)
        self._end(job, outcome)

    def _end(self, job: Job, outcome: Outcome) -> None:
        if job in self.waiting:
            self.waiting.remove(job)
        self.elsewhere.pop(job.identity, None)
        self.ended[job.identity] = outcome
        self.finished(job, outcome)


def known_outcome(job: Job) -> Outcome | None:
    """How a job ended by what it left in its folder, or None if it did not end there."""
    if job.result() is not None:
        return Outcome(status="ok")
    failure = job.failure()
    if failure is not None:
        status: Literal["user-error", "failed"] = "user-error" if failure["user"] else "failed"
        return Outcome(status=status, error=failure["error"], memory=failure.get("memory", False))
    return None


def _is_held(job: Job) -> bool:
    try:
        with job.lock().acquire(blocking=False):
            return False
    except Timeout:
        return True
    except OSError as error:
        raise StorageError(
            f"{job.directory}: no file can be locked here ({error}). Give an --output and a $ZOO_CACHE on a file "
            "system with flock: a local disk, NFS version 4, or Lustre mounted with the option flock."
        ) from error


def _without_a_word(job: Job, exit_: Exit) -> Outcome:
    if exit_.killed:
        return Outcome(status="killed", error=f"the process {exit_.killed}")
    error = f"the process exited with code {exit_.code} without a word; see {job.directory / 'log.txt'}"
    return Outcome(status="failed", error=error)
