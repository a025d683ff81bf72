"""Ctrl-C at any moment prints one line, leaves no process behind, and the same command goes on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from zoo_harness.start import INTERRUPTED, STOPPED

PATIENCE_SECONDS = 120


@contextmanager
def started(world: Path, environment: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "zoo_harness.start", "bench", str(world / "spec.yaml")]
    command += ["--algorithms", "sft", "--seeds", "1"]
    own = {**environment, "ZOO_CACHE": str(folder / "cache")}
    bench = subprocess.Popen(
        command,
        cwd=folder,
        env=own,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield bench
    finally:
        for left in in_session(bench.pid):
            left.kill()


def in_session(session: int) -> list[psutil.Process]:
    """Processes that a command started, however they are related to it now, and itself."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue  # ended while we looked
    return found


def when(arrived: Callable[[], bool], bench: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not arrived():
        assert bench.poll() is None, bench.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)


MOMENTS: dict[str, Callable[[Path, subprocess.Popen[str]], bool]] = {
    "while modules are imported": lambda folder, bench: "zoo_harness" in " ".join(psutil.Process(bench.pid).cmdline()),
    "while the server of processes imports": lambda folder, bench: len(in_session(bench.pid)) > 2,
    "while the input is checked": lambda folder, bench: (folder / "zoo-runs/spec/probe/input/log.txt").exists(),
    "while an update is measured": lambda folder, bench: any(folder.glob("zoo-runs/spec/probe/*/*/log.txt")),
    "while a cell trains": lambda folder, bench: any(folder.glob("zoo-runs/spec/cells/*/begun.json")),
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_stopped_bench_says_one_line_and_leaves_nothing_running(world, environment, tmp_path, moment):
    with started(world, environment, tmp_path) as bench:
        when(lambda: MOMENTS[moment](tmp_path, bench), bench)
        if moment == "while modules are imported":
            time.sleep(0.3)  # Python itself starts; before it runs our first line it knows no better than a traceback
        os.killpg(bench.pid, signal.SIGINT)  # as a terminal does: to all in the foreground
        said, _ = bench.communicate(timeout=60)
        assert bench.returncode == INTERRUPTED
        assert said.rstrip().splitlines()[-1] == STOPPED
        assert "Traceback" not in said
        assert "KeyboardInterrupt" not in said
        # The helper of Python's that unlinks shared memory sees a moment later that the command has ended.
        psutil.wait_procs(in_session(bench.pid), timeout=10)
        assert in_session(bench.pid) == []


@pytest.mark.slow
def test_a_bench_that_was_stopped_goes_on_with_the_same_command(world, environment, tmp_path):
    with started(world, environment, tmp_path) as bench:
        when(lambda: any(tmp_path.glob("zoo-runs/spec/cells/*/result.json")), bench)
        os.killpg(bench.pid, signal.SIGINT)
        bench.communicate(timeout=60)
    done = {path: path.stat().st_mtime_ns for path in tmp_path.glob("zoo-runs/spec/cells/*/result.json")}
    with started(world, environment, tmp_path) as bench:
        said, _ = bench.communicate(timeout=250)
        assert bench.returncode == 0, said
    assert done == {path: path.stat().st_mtime_ns for path in done}
