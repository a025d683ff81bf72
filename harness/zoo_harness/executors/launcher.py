"""A job in several processes, started by a launcher: `accelerate launch ...`, torchrun, or a user's own.

The launcher starts `-m zoo_harness.jobs.worker JOB` in every process; how the processes share the work is in
zoo_core/compute/data_parallel.py.
"""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

from zoo_harness.job import Job

FULLY_SHARDED = shlex.split(
    "--use_fsdp --fsdp_version 2 --num_machines 1 --mixed_precision no --dynamo_backend no --main_process_port 0"
)
"""Every process holds its part of the weights, gradients and moments. What a user configured for accelerate counts not.

Port 0 is any free one, for several may run at once; the precision is the spec's.
"""


def accelerate(processes: int) -> list[str]:
    """Return the words that start so many processes on this machine, which divide a model's weights among them."""
    return [sys.executable, "-m", "accelerate.commands.launch", *FULLY_SHARDED, "--num_processes", str(processes)]


def launch(words: Sequence[str], job: Job, more: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a launcher, with `more` in its environment; what it prints goes to the job's log. `OSError` if it cannot.

    It runs in a session of its own: Ctrl-C is for the command, which then ends the launcher.
    """
    with (job.directory / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [*words, "-m", "zoo_harness.jobs.worker", str(job.file)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, **(more or {})},
        )


def end(launchers: Sequence[subprocess.Popen[bytes]]) -> None:
    """End launchers and all that they started, within some ten seconds."""
    for launcher in launchers:
        launcher.terminate()
    for launcher in launchers:
        try:
            launcher.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(launcher.pid, signal.SIGKILL)
            launcher.wait()
