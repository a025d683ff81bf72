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
from zoo_harness.jobs.worker import ENDS_WITH_STDIN, GPU

FULLY_SHARDED = shlex.split(
    "--use_fsdp --fsdp_version 2 --num_machines 1 --mixed_precision no --dynamo_backend no --main_process_port 0"
)
"""Every process holds its part of the weights, gradients and moments. What a user configured for accelerate counts not.

Port 0 is any free one, for several may run at once; the precision is the spec's.
"""


def accelerate(processes: int) -> list[str]:
    """Return the words that start so many processes on this machine, which divide a model's weights among them."""
    return [sys.executable, "-m", "accelerate.commands.launch", *FULLY_SHARDED, "--num_processes", str(processes)]


def launch(words: Sequence[str], job: Job) -> subprocess.Popen[bytes]:
    """Start a user's launcher; what it prints goes to the job's log. `OSError` if it cannot be started."""
    return _start(words, job, {}, subprocess.DEVNULL)


def launch_on(gpus: Sequence[str], job: Job) -> subprocess.Popen[bytes]:
    """Start a process for each of these GPUs. They end when this one does, however it ends: their stdin is closed."""
    names = ",".join(gpus)
    environment = {"CUDA_VISIBLE_DEVICES": names, GPU: names, ENDS_WITH_STDIN: "1"}
    return _start(accelerate(len(gpus)), job, environment, subprocess.PIPE)


def _start(words: Sequence[str], job: Job, more: Mapping[str, str], stdin: int) -> subprocess.Popen[bytes]:
    """Start a launcher in a session of its own: Ctrl-C is for the command, which then ends the launcher."""
    with (job.directory / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [*words, "-m", "zoo_harness.jobs.worker", str(job.file)],
            stdin=stdin,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, **more},
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
