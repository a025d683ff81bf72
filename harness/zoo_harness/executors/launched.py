"""Trainings in several processes each, started by the user's own launcher: `accelerate launch ...` or torchrun.

The launcher starts `-m zoo_harness.jobs.worker JOB` in every process; how the processes share the work is in
zoo_core/compute/data_parallel.py. Other jobs, such as calibrating a reward, run in one process of this machine.
"""

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess

from zoo_core.errors import SpecError
from zoo_harness.executors.local import Forks, how
from zoo_harness.executors.scheduler import Exit
from zoo_harness.job import Job

Handle = ForkServerProcess | subprocess.Popen[bytes]


class Launched:
    """A place where trainings run as a launcher says."""

    def __init__(self, launch: str) -> None:
        self.words = shlex.split(launch)
        self.forks = Forks()

    def start(self, job: Job) -> Handle:
        """Start the launcher, or one process for what is no training. What the launcher prints goes to the log."""
        if job.kind != "train":
            return self.forks.start(job)
        command = [*self.words, "-m", "zoo_harness.jobs.worker", str(job.file)]
        try:
            with (job.directory / "log.txt").open("ab") as log:
                # In a session of its own: Ctrl-C is for the command, which then ends the launcher.
                return subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
        except OSError as error:
            raise SpecError(
                f"--launch {shlex.join(self.words)}: {error.strerror}. Give the beginning of a command that starts "
                'processes, for example "accelerate launch --multi_gpu --num_processes 2".'
            ) from None

    def pause(self, running: Sequence[Handle]) -> None:
        """Wait a moment."""
        time.sleep(0.25)

    def ended(self, running: Handle) -> bool:
        """Whether it ended."""
        return running.poll() is not None if isinstance(running, subprocess.Popen) else self.forks.ended(running)

    def exit(self, ended: Handle) -> Exit:
        """How it ended."""
        return how(ended.returncode) if isinstance(ended, subprocess.Popen) else self.forks.exit(ended)

    def stop(self, running: Sequence[Handle]) -> None:
        """End them; a launcher ends its processes."""
        launchers = [one for one in running if isinstance(one, subprocess.Popen)]
        self.forks.stop([one for one in running if not isinstance(one, subprocess.Popen)])
        for launcher in launchers:
            launcher.terminate()
        for launcher in launchers:
            try:
                launcher.wait(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(launcher.pid, signal.SIGKILL)
                launcher.wait()
