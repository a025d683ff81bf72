"""Several benches at once on one folder of results and one of stages, as several machines would work on it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

pytestmark = pytest.mark.slow
ROWS = {"sft", "dpo", "sft-chosen", "start", "base", "best-of-4"}
DIFFERENT = ("wall_seconds", "peak_memory_bytes", "stages", "attempt")
"""What no two runs of a cell have in common."""


@pytest.fixture(scope="module")
def small(world) -> Path:
    """A spec of three cells that keeps a checkpoint of every update."""
    spec = yaml.safe_load((world / "spec.yaml").read_text())
    spec |= {
        "algorithms": ["sft", {"name": "dpo", "batch_size": 8}],
        "budget": 2e9,
        "seeds": 1,
        "checkpoint_seconds": 0,
    }
    path = world / "small.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def start(spec: Path, output: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "zoo_harness.start", "bench", str(spec), "--output", str(output)]
    return subprocess.Popen(
        [*command, "--workers", "1", "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def board_of(bench: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = bench.communicate(timeout=250)
    assert bench.returncode == 0, err
    return json.loads(out)


def records_of(output: Path) -> dict[str, dict[str, Any]]:
    found = {path.stem: json.loads(path.read_text()) for path in (output / "records").glob("*.json")}
    return {name: {key: record[key] for key in record if key not in DIFFERENT} for name, record in found.items()}


@pytest.fixture(scope="module")
def both(small, environment, tmp_path_factory):
    """Two benches started together, with a cache of stages of their own: the output, the cache, their boards."""
    folder = tmp_path_factory.mktemp("both")
    environment = {**environment, "ZOO_CACHE": str(folder / "cache")}
    benches = [start(small, folder / "out", environment) for _ in range(2)]
    return folder / "out", folder / "cache" / "stages", [board_of(bench) for bench in benches]


def test_no_job_is_done_twice_and_both_end_with_the_whole_board(both):
    output, cache, boards = both
    jobs = [*output.glob("cells/*/begun.json"), *output.glob("scores/*/begun.json"), *cache.glob("*/begun.json")]
    measured = [*output.glob("probe/*/begun.json"), *output.glob("probe/*/*/begun.json")]
    assert len(jobs) == 3 + len(ROWS) + 3  # cells, scores, stages
    assert len(measured) == 2 + 3 + 2  # the input and scoring, rows, stages
    markers = [*jobs, *measured]
    assert [json.loads(marker.read_text())["attempts"] for marker in markers] == [1] * len(markers)
    assert boards[0] == boards[1]
    assert {row["row"] for row in boards[0]["rows"]} == ROWS


def test_when_one_is_killed_the_other_takes_over_its_cell_from_the_checkpoint(both, small, environment, tmp_path):
    output = tmp_path / "out"
    benches = [start(small, output, environment) for _ in range(2)]
    cell, survivor = kill_the_owner_of_a_cell(output / "cells", benches)
    board = board_of(survivor)
    assert {row["row"] for row in board["rows"]} == ROWS
    assert json.loads((cell / "begun.json").read_text())["attempts"] == 2
    assert records_of(output) == records_of(both[0])


def kill_the_owner_of_a_cell(cells: Path, benches: list[subprocess.Popen[str]]) -> tuple[Path, subprocess.Popen[str]]:
    """Kill a bench that trains a cell, and that process, at once; return the cell and the other bench."""
    while all(bench.poll() is None for bench in benches):
        for cell in cells.glob("*"):
            if not (cell / "now.safetensors").exists() or (cell / "result.json").exists():
                continue
            for bench in benches:
                family = psutil.Process(bench.pid).children(recursive=True)
                working = [process for process in family if log_of(process) == str(cell / "log.txt")]
                if working:
                    bench.kill()
                    working[0].send_signal(signal.SIGKILL)
                    bench.communicate()
                    return cell, next(other for other in benches if other is not bench)
        time.sleep(0.002)
    raise AssertionError("no cell was seen at work")


def log_of(process: psutil.Process) -> str:
    try:
        return os.readlink(f"/proc/{process.pid}/fd/1")
    except OSError:
        return ""
