"""Laws of the watchdog: an update that hangs is ended, and a process that was stopped is not blamed for it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WATCHED = """
import sys, time
from pathlib import Path
from zoo_core.registry.plugins import plugins
from zoo_harness.job import Job
from zoo_harness.jobs.driven import Watchdog

job = Job(kind="train", title="", directory=Path(sys.argv[1]), identity="1")
with Watchdog(job, plugins().algorithm("sft")) as watchdog:
    watchdog.allow(4.0)
    print("begun", flush=True)
    for _ in range(10 * int(sys.argv[2])):
        time.sleep(0.1)
"""


@contextmanager
def watched(folder: Path, seconds: int) -> Iterator[subprocess.Popen[str]]:
    """A process whose update takes so many seconds and may take 4, from the update's beginning on."""
    command = [sys.executable, "-c", WATCHED, str(folder), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "begun\n"
        yield process


def test_an_update_that_does_not_end_in_the_time_it_is_given_ends_the_process(tmp_path: Path) -> None:
    with watched(tmp_path, 600) as process:
        assert process.wait(60) == 1
    assert "took longer than 4 s" in json.loads((tmp_path / "failure.json").read_text())["error"]


def test_time_in_which_the_process_was_stopped_does_not_count(tmp_path: Path) -> None:
    with watched(tmp_path, 2) as process:
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(6)
        os.kill(process.pid, signal.SIGCONT)
        assert process.wait(60) == 0
    assert not (tmp_path / "failure.json").exists()
