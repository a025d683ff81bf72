"""The executor `fresh`, of `zoo bench --executor fresh`: each job is a process of its own, started anew."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo_core.hookspecs import hookimpl
from zoo_core.records import Executor


@hookimpl
def zoo_executors() -> list[Executor]:
    """Return the executor `fresh`."""
    return [
        Executor(name="fresh", summary="A new process a job", run=f"{__name__}:run", options={"niceness": 0}),
    ]


def run(jobs: Any, finished: Any, workers: int, watch: Any, options: Mapping[str, object], folder: Path) -> None:
    """Run the jobs; the harness decides what runs when."""
    from zoo_harness.executors import scheduler

    scheduler.run(Fresh(int(str(options["niceness"]))), jobs, finished, workers, watch)


class Fresh:
    """The place where jobs run (`zoo_harness.executors.scheduler.Place`)."""

    def __init__(self, niceness: int) -> None:
        self.niceness = niceness

    def start(self, job: Any) -> "subprocess.Popen[bytes]":
        """Start a job; what it prints is in its own log."""
        command = [sys.executable, "-m", "zoo_harness.jobs.worker", str(job.file)]
        return subprocess.Popen(command, preexec_fn=lambda: os.nice(self.niceness))

    def pause(self, running: Sequence[Any]) -> None:
        """Wait until one of them may have ended."""
        time.sleep(0.2)

    def ended(self, running: "subprocess.Popen[bytes]") -> bool:
        """Whether it ended."""
        return running.poll() is not None

    def exit(self, ended: "subprocess.Popen[bytes]") -> Any:
        """How it ended."""
        from zoo_harness.executors.local import how

        return how(ended.returncode)

    def stop(self, running: "Sequence[subprocess.Popen[bytes]]") -> None:
        """End them; each goes on from its checkpoint."""
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
