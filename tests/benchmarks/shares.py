"""Say what the time of a finished bench went into.

    python tests/benchmarks/shares.py FOLDER [WORKERS] [FOLDER WORKERS ...]

From the times of its files, so of a bench that ran once from its start to its end; stages that it found finished count
for nothing. Of several folders it also says how much faster the later ones were than the first. Time outside is what
the workers' time holds beside training and evaluation: the probe, starting processes, loading, waiting for each other.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path


def main(folder: Path, workers: int) -> float:
    """Print the shares of one bench; return its seconds."""
    began, ended = (folder / "probe" / "job.json").stat().st_mtime, (folder / "leaderboard.json").stat().st_mtime
    whole = ended - began
    training = evaluation = processes = 0.0
    for directory in jobs(folder):
        job, result = (json.loads((directory / name).read_text()) for name in ("job.json", "result.json"))
        done, started = ((directory / name).stat().st_mtime for name in ("result.json", "begun.json"))
        if not began <= started <= done <= ended:
            continue
        processes += done - (directory / "job.json").stat().st_mtime
        if job["kind"] == "train":
            training += result["ledger"]["wall_seconds"]
        elif job["kind"] == "score":
            evaluation += done - started
        elif job["kind"] != "probe":  # labels and calibrations sample from models: compute that rows need
            training += done - started
    outside = 1 - (training + evaluation) / (workers * whole)
    print(f"{folder}: {whole:.0f} s with {workers} workers")
    print(f"  outside training and evaluation   {outside:6.1%} of the workers' time")
    print(f"    of it inside the jobs' processes {(processes - training - evaluation) / (workers * whole):5.1%}")
    print(f"  evaluation                        {evaluation / (training + evaluation):6.1%} of the cells' time")
    return whole


def jobs(folder: Path) -> Iterator[Path]:
    """Yield the folders of finished jobs, stages in the cache included."""
    found = {path.parent for path in folder.glob("*/*/result.json")} | {folder / "probe"}
    for directory in sorted(found):
        payload = json.loads((directory / "job.json").read_text())["payload"]
        made_before = [payload.get("calibration"), payload.get("pairs"), payload.get("reward_model")]
        stages = [*payload.get("stages", []), *(path for path in made_before if path)]
        found |= {Path(path).parent if Path(path).name == "final" else Path(path) for path in stages}
    yield from sorted(path for path in found if (path / "result.json").exists())


if __name__ == "__main__":
    words = sys.argv[1:]
    places = [place for place, word in enumerate(words) if Path(word).is_dir()]
    times = []
    for place, after in zip(places, [*places[1:], len(words)], strict=True):
        given = words[place + 1 : after]
        times.append(main(Path(words[place]), int(given[0]) if given else os.cpu_count() or 1))
    for place, seconds in enumerate(times[1:], 1):
        print(f"{words[places[place]]} is {times[0] / seconds:.2f} times as fast as {words[places[0]]}")
