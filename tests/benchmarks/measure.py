"""What both sides of a comparison measure themselves with. Needs nothing but the standard library.

Times are taken as medians over updates; memory is the highest that a process held, and the part of it above what its
imports took.
"""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results.json")
WARM_UP = 2
"""Updates before those that are timed: allocators and caches fill, and ours audits the first."""


class Clock:
    """Stamps the end of each update, in seconds of the wall and of this process's processors."""

    def __init__(self) -> None:
        self.imported = peak_bytes()
        self.stamps: list[tuple[float, float]] = []

    def stamp(self) -> None:
        """Note that an update ended."""
        self.stamps.append((time.perf_counter(), time.process_time()))

    def report(self, **others: Any) -> None:
        """Print one line of JSON: what a process that was run `apart` says last."""
        wall, cpu = zip(*self.stamps, strict=True)
        print(
            json.dumps(
                {
                    "seconds": _typical(wall),
                    "cpu_seconds": _typical(cpu),
                    "peak_bytes": peak_bytes(),
                    "imported_bytes": self.imported,
                    **others,
                }
            )
        )


def _typical(stamps: Sequence[float]) -> float:
    return statistics.median([after - before for before, after in pairwise(stamps)][WARM_UP - 1 :])


def peak_bytes() -> int:
    """Highest resident memory of this process so far.

    Where there is /proc, from there: `ru_maxrss` of a new process begins at what its parent held.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def apart(script: Path, *arguments: object, python: str | Path = sys.executable, threads: int = 1) -> dict[str, Any]:
    """Run a script in a new process with so many threads; return the JSON of the last line it prints."""
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    command = [str(python), str(script), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most of repeated measurements, to three digits."""
    return {
        name: float(f"{of(values):.3g}") for name, of in [("median", statistics.median), ("least", min), ("most", max)]
    }


def keep(section: str, row: str, values: dict[str, Any]) -> None:
    """Write a row of results.json at once, in the place of the same row of before."""
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    known["machine"] = {"cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"}
    known.setdefault(section, {})[row] = values
    RESULTS.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
