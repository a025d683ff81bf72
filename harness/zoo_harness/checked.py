"""What `zoo plugins check` found of an algorithm, kept with the hash of the code that its training runs.

A bench finds it there, and its board shows it; a change of the code ends that.
"""

from pathlib import Path
from typing import TypedDict, cast

from zoo_core.records import Algorithm
from zoo_harness.job import read_json
from zoo_harness.planning.identity import code_of_job


class Checked(TypedDict):
    """What a check of an algorithm found."""

    algorithm: str
    code: str
    """Hash of the code that its training runs."""
    core: str
    """Version of zoo-core, whose suite it is."""
    settings: dict[str, object]
    """Settings of the check that are not the algorithm's defaults."""
    laws: list[dict[str, object]]
    held: int
    tried: int


def last_check(algorithm: Algorithm, cache: Path) -> Checked | None:
    """Return what the check of exactly this code found, or None if there was none."""
    found = cast(Checked | None, read_json(file_of(cache, algorithm)))
    return found if found and found["code"] == code_of_job("train", algorithm) else None


def file_of(cache: Path, algorithm: Algorithm) -> Path:
    """Where the last check of an algorithm is kept."""
    return cache / "checks" / f"{algorithm.name}.json"
