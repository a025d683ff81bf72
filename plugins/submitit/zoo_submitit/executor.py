"""Runs each job of a bench as a job of a cluster. The harness decides what runs when, as on one machine."""

import json
import multiprocessing
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from submitit import AutoExecutor
from submitit import Job as Submitted
from submitit.core.utils import DelayedSubmission, FailedJobError, UncompletedJobError
from zoo_harness.executors import scheduler
from zoo_harness.executors.local import how
from zoo_harness.executors.scheduler import Exit, Finished, Watch
from zoo_harness.job import Job
from zoo_harness.jobs.worker import main

from zoo_core.errors import SpecError

POLL_SECONDS = 0.5


def run(
    jobs: Sequence[Job],
    finished: Finished,
    workers: int,
    watch: Watch,
    options: Mapping[str, object],
    folder: Path,
) -> None:
    """Submit each job once the jobs that it needs are done; see `zoo_core.hookspecs.zoo_executors`."""
    settings = {name: _value(value) for name, value in options.items()}
    cluster = settings.pop("cluster")
    try:
        executor = AutoExecutor(
            folder / "%j",  # of each cluster job a folder: its script, its streams, its pickles
            cluster=None if cluster == "auto" else cluster,
            local_max_num_timeout=0,  # a job that reached its time limit hangs, or needs more: never requeued unasked
            slurm_max_num_timeout=0,
        )
        executor.update_parameters(**settings)
    except (AssertionError, NameError, RuntimeError, TypeError, ValueError) as error:
        raise SpecError(f"the options {settings} of the cluster {cluster!r} will not do: {error}") from error
    scheduler.run(Cluster(executor, float(settings["timeout_min"])), jobs, finished, workers, watch)


class Cluster:
    """A place for jobs: a cluster whose nodes can read the folders of results and stages."""

    def __init__(self, executor: AutoExecutor, timeout_minutes: float) -> None:
        self.executor, self.timeout_minutes = executor, timeout_minutes

    def start(self, job: Job) -> Submitted[int | None]:
        """Submit a job."""
        self.executor.update_parameters(name=f"zoo-{job.title}-{job.seed}".replace(" ", "-"))
        try:
            return self.executor.submit(Work(str(job.file)))
        except FailedJobError as error:  # submitit's error for a command that failed
            raise SpecError(f"the cluster took no job; mend the options or lower --workers. {error}") from error

    def pause(self, running: Sequence[Submitted[int | None]]) -> None:
        """Wait for a moment. submitit asks the cluster less often than this, and ever less often."""
        time.sleep(POLL_SECONDS)

    def ended(self, running: Submitted[int | None]) -> bool:
        """Return whether a job ended."""
        return running.done()

    def exit(self, ended: Submitted[int | None]) -> Exit:
        """Return how a job ended."""
        try:
            code = ended.result()
        except FailedJobError:  # a kind of UncompletedJobError
            return Exit(killed=f"could not be started on its node; see {ended.paths.stderr}", again=False)
        except UncompletedJobError:
            return Exit(killed=f"was ended by the cluster (state {ended.state}); see {ended.paths.stderr}")
        if code is None:
            limit = f"its time limit of {self.timeout_minutes:g} minutes"
            return Exit(killed=f"reached {limit}; the same command goes on from its checkpoint", again=False)
        return how(code)

    def stop(self, running: Sequence[Submitted[int | None]]) -> None:
        """Cancel jobs, and give the cluster a few seconds to end them."""
        for job in running:
            job.cancel(check=False)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and not all(job.done() for job in running):
            time.sleep(0.1)


class Work:
    """The function of a cluster job: run the worker in a separate process, as on one machine, and outlive it."""

    def __init__(self, job_file: str) -> None:
        self.job_file = job_file

    def __call__(self) -> int | None:
        """Return the worker's exit code, or None if the time limit was reached."""
        process = multiprocessing.get_context("spawn").Process(target=_work, args=(self.job_file,))
        process.start()
        try:
            process.join()
        except UncompletedJobError:  # raised by submitit's signal handler just before the cluster would kill us
            return None
        finally:
            process.kill()
            process.join()
        return process.exitcode

    def checkpoint(self) -> DelayedSubmission:
        """Have the job started again if the cluster preempts it; it goes on from its own checkpoint."""
        return DelayedSubmission(self)


def _work(job_file: str) -> None:
    for ours in (signal.SIGTERM, signal.SIGUSR2):  # with these the cluster speaks to submitit, which then ends us
        signal.signal(ours, signal.SIG_IGN)
    main(job_file)


def _value(given: Any) -> Any:
    """Return the value of an option: 8 and [a] as JSON, 2:00:00 and gpu as text."""
    try:
        return json.loads(given) if isinstance(given, str) else given
    except json.JSONDecodeError:
        return given
