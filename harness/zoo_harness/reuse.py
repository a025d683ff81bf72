"""Work that was done before: in this folder for other rows, or in another folder. A job is known by its identity."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypedDict, cast
from uuid import uuid4

from zoo_core.storage.atomic import write_json
from zoo_harness.job import Job, read_json
from zoo_harness.planning.plan import Plan

OF_THE_PROCESS = ("lock", "job.json", "begun.json", "progress.json", "failure.json")
"""Files of a job's folder that tell how it was done, and are no part of its result; so are logs and checkpoints."""


class Place(TypedDict):
    """Where a job was done."""

    folder: str


def change_rows(plan: Plan, jobs: Sequence[Job]) -> None:
    """Make a folder ready for other rows, or for other code of a row; no finished work is lost.

    A finished job of another identity is set aside, and one of this identity that was set aside comes back. Records
    are taken away: those of this bench are written again as its scores are found done.
    """
    for record in (plan.output / "records").glob("*.json"):
        record.unlink()
    for job in _own(plan, jobs):
        found = read_json(job.result_file)
        if found and found["identity"] == job.identity:
            continue
        if found:
            _move(job.directory, plan.output / "aside" / str(found["identity"]))
        kept = plan.output / "aside" / job.identity
        if kept.is_dir():
            _move(kept, job.directory)


def adopt(plan: Plan, jobs: Sequence[Job]) -> None:
    """Take over from other folders what was done there. What cannot be taken over is done here."""
    for job in _own(plan, jobs):
        place = cast(Place | None, read_json(_entry(plan, job)))
        if place is None or job.result() is not None:
            continue
        there = Path(place["folder"])
        if there == job.directory or (read_json(there / "result.json") or {}).get("identity") != job.identity:
            continue
        # Another bench may do the job just now (a timeout of the lock), remove the other folder, or fill the disk.
        with contextlib.suppress(OSError), job.lock().acquire(blocking=False):
            _copy(there, job.directory)


def remember(plan: Plan, job: Job) -> None:
    """Note where a job was done, for other folders."""
    if job.directory.is_relative_to(plan.output):
        entry = _entry(plan, job)
        entry.parent.mkdir(parents=True, exist_ok=True)
        write_json(entry, {"folder": str(job.directory)})


def _own(plan: Plan, jobs: Sequence[Job]) -> Iterator[Job]:
    """The jobs whose folders are this bench's. A stage's is everybody's: it is named by its identity."""
    return (job for job in jobs if job.directory.is_relative_to(plan.output))


def _entry(plan: Plan, job: Job) -> Path:
    return plan.cache.parent / "done" / f"{job.identity}.json"


def _copy(there: Path, here: Path) -> None:
    """Copy what a job left, its result last; weights are linked where one disk holds both."""
    new = here / f"adopted-{uuid4().hex}"
    try:
        shutil.copytree(there, new, copy_function=_link, ignore=_is_of_the_process(there))
        for left in here.iterdir():
            if left != new and left.name != "lock":
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        for part in sorted(new.iterdir(), key=lambda part: part.name == "result.json"):
            part.rename(here / part.name)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _is_of_the_process(root: Path) -> Callable[[str, list[str]], set[str]]:
    """Return what `copytree` asks for: the names in a folder that are not copied."""

    def ignored(folder: str, names: list[str]) -> set[str]:
        if Path(folder) != root:
            return set()
        return {name for name in names if name in OF_THE_PROCESS or name.endswith((".txt", ".safetensors"))}

    return ignored


def _link(source: str, target: str) -> None:
    """Weights are written once and never changed, so two folders may share them."""
    linked = False
    if source.endswith(".safetensors"):
        with contextlib.suppress(OSError):  # another disk, or a file system without links
            os.link(source, target)
            linked = True
    if not linked:
        shutil.copyfile(source, target)


def _move(folder: Path, to: Path) -> None:
    shutil.rmtree(to, ignore_errors=True)
    to.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(to)
