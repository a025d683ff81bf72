"""The local executor: one forked process per job, as many at once as there are cores to spare, or as GPUs hold.

A job sees one GPU, the one that the fewest others have: CUDA_VISIBLE_DEVICES of its process says so.
"""

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from zoo_core.errors import SpecError
from zoo_harness.executors import scheduler
from zoo_harness.executors.gpus import gpus_here, least_taken
from zoo_harness.executors.scheduler import Exit, Finished, Watch
from zoo_harness.job import Job
from zoo_harness.jobs.worker import PRELOAD, main


def run(
    jobs: Sequence[Job],
    finished: Finished,
    workers: int,
    watch: Watch = lambda running: None,
    options: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> None:
    """Run jobs in processes of this machine; see `zoo_core.hookspecs.zoo_executors`.

    The option `gpus` names those that are used, with commas; all, if it is left out.
    """
    given = dict(options or {})
    gpus = given.pop("gpus", None)
    if given:
        raise SpecError(f"the executor 'local' takes the option gpus alone, and {', '.join(given)} was given.")
    names = [gpu.name for gpu in gpus_here()] if gpus is None else [name for name in gpus.split(",") if name]
    scheduler.run(Forks(names), jobs, finished, workers, watch)


class Forks:
    """Processes forked from a server that has imported everything once."""

    def __init__(self, gpus: Sequence[str] = ()) -> None:
        self.gpus = gpus
        self.taken: dict[ForkServerProcess, str] = {}
        """The GPU of each process."""
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(PRELOAD)

    def start(self, job: Job) -> ForkServerProcess:
        """Fork one."""
        # Ctrl-C is for the bench: while its server imports, before it can ignore it, that would print a traceback.
        resource_tracker.ensure_running()  # it would let them through again
        with _without_interrupts():
            forkserver.ensure_running()
        self.taken = {process: gpu for process, gpu in self.taken.items() if process.is_alive()}
        gpu = least_taken(self.gpus, [*self.taken.values()])
        process = self.context.Process(target=main, args=(str(job.file), gpu), daemon=True)
        process.start()
        if gpu is not None:
            self.taken[process] = gpu
        return process

    def pause(self, running: Sequence[ForkServerProcess]) -> None:
        """Return at once when one has ended."""
        wait([process.sentinel for process in running], timeout=0.25)

    def ended(self, running: ForkServerProcess) -> bool:
        """Whether it ended."""
        return not running.is_alive()

    def exit(self, ended: ForkServerProcess) -> Exit:
        """How it ended."""
        return how(ended.exitcode)

    def stop(self, running: Sequence[ForkServerProcess]) -> None:
        """End them, within five seconds."""
        for process in running:
            process.terminate()
        deadline = time.monotonic() + 5
        for process in running:
            process.join(max(0.1, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Hold Ctrl-C back: what is started inside never sees it, and this process sees it afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_server() -> None:
    """End the server that jobs are forked from; it would import to its end before it saw that nobody needs it."""
    server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]  # there is no public way to it
    if server is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(server, signal.SIGKILL)


def how(code: int | None) -> Exit:
    """Put an exit code of Python's processes, negative for a signal, in words."""
    if code is None or code >= 0:
        return Exit(code)
    name = f"signal {-code}"
    with contextlib.suppress(ValueError):
        name = signal.Signals(-code).name
    return Exit(killed=f"was killed by {name} (out of memory, or killed from outside)")
