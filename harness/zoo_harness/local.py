"""The local executor: one forked process per job, as many at once as there are cores to spare."""

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess

from zoo_harness.jobs import Job, Outcome, read_json
from zoo_harness.worker import PRELOAD, main

ATTEMPTS = 2
"""Times a job is started whose process was killed from outside; its seed stays the same."""


def run(
    jobs: Sequence[Job],
    finished: Callable[[Job, Outcome], None],
    workers: int,
    watch: Callable[[Sequence[Job]], None] = lambda running: None,
    failed_before: Sequence[Job] = (),
) -> None:
    """Run jobs whose needs are met, until none is left that can run.

    `finished(job, outcome)` is called once per job, `watch(running)` a few times a second. A job that needs one that
    failed, or one of `failed_before` itself, ends as failed without being tried. Ctrl-C
    ends the running processes; what they had done stays.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    waiting = list(jobs)
    ended: dict[str, Outcome] = {}
    running: dict[str, tuple[Job, ForkServerProcess]] = {}
    attempts: dict[str, int] = {}

    def end(job: Job, outcome: Outcome) -> None:
        ended[job.identity] = outcome
        finished(job, outcome)

    try:
        while waiting or running:
            for job in list(waiting):
                broken = [need for need in job.needs if need in ended and ended[need].status != "ok"]
                if broken:
                    waiting.remove(job)
                    end(job, ended[broken[0]])
                elif job in failed_before:
                    waiting.remove(job)
                    end(job, _outcome(job, None))
                elif job.result() is not None:
                    waiting.remove(job)
                    end(job, Outcome(status="ok"))
                elif len(running) < workers and all(need in ended for need in job.needs):
                    waiting.remove(job)
                    attempts[job.identity] = attempts.get(job.identity, 0) + 1
                    process = context.Process(target=main, args=(str(job.write()),), daemon=True)
                    process.start()
                    running[job.identity] = job, process
            wait([process.sentinel for _, process in running.values()], timeout=0.25)
            watch([job for job, _ in running.values()])
            for job, process in list(running.values()):
                if process.is_alive():
                    continue
                process.join()
                del running[job.identity]
                outcome = _outcome(job, process.exitcode)
                if outcome.status == "killed" and attempts[job.identity] < ATTEMPTS:
                    waiting.insert(0, job)  # not the algorithm's fault: again, from its last checkpoint
                else:
                    end(job, outcome)
    finally:
        for _, process in running.values():
            process.terminate()
        deadline = time.monotonic() + 5
        for _, process in running.values():
            process.join(max(0.1, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()


def _outcome(job: Job, code: int | None) -> Outcome:
    if job.result() is not None:
        return Outcome(status="ok")
    failure = read_json(job.failure_file)
    if failure and failure["identity"] == job.identity:
        return Outcome(status="user-error" if failure["user"] else "failed", error=failure["error"])
    how = f"exited with code {code}"
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            how = f"was killed by {signal.Signals(-code).name}"
        return Outcome(status="killed", error=f"the process {how} (out of memory, or killed from outside)")
    return Outcome(status="failed", error=f"the process {how} without a word; see {job.directory / 'log.txt'}")
