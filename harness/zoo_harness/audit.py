"""Train a row again with every update audited: `zoo audit FOLDER ROW`.

A bench audits few updates, and a plugin can tell when one is: it may compute honestly then, and only then. An audit
changes no number. So whoever computes something else while it is looked at ends at other weights when it always is.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from zoo_leaderboard.schema import Bench
from zoo_leaderboard.verdicts import AUDIT_MARGIN

from zoo_core.errors import SpecError, StorageError, ZooError
from zoo_harness.executors import local
from zoo_harness.job import Job, Outcome, of_file, read_json
from zoo_harness.payloads import Training
from zoo_harness.probing import Waiting
from zoo_harness.record import code_now
from zoo_harness.results import Trained


@dataclass(frozen=True)
class Audited:
    """A training of a bench, and how it went when all of it was audited."""

    updates: int
    ratio: float | None
    """What the meter charged, over what was counted; None where nothing could be counted."""
    faults: tuple[str, ...]
    """In what the two differ, and what the meter did not see."""


def audit(folder: Path, row: str, seed: int, waiting: Waiting) -> Audited:
    """Train the row of a finished bench again, from the same stages, and compare; nothing in the folder changes.

    Raises `SpecError` where the folder has no such training, or was made by other code or elsewhere, so that other
    weights would say nothing; `ZooError` where the training fails.
    """
    file = folder / "cells" / f"{row}-seed{seed}" / "job.json"
    cell = of_file(file).model_copy(update={"directory": file.parent})  # the folder may have been moved since
    before = cast(Trained | None, cell.result())
    if before is None:
        raise SpecError(f"{cell.directory}: this row is not trained to its end. Run the bench to its end first.")
    payload = Training.of(cell.payload)
    _check_code(folder)
    for needed in (*payload.stages, payload.start, payload.calibration, payload.reward_model):
        if needed is not None and not needed.exists():
            raise StorageError(f"{needed}: this stage of the row is gone. Run the bench again to have it.")
    with tempfile.TemporaryDirectory() as place:
        again = cell.model_copy(
            update={
                "directory": Path(place),
                "needs": (),
                "after": (),
                "title": f"audit of {cell.title}",
                "payload": payload.model_copy(update={"all_audited": True, "output": None}).to_json(),
            }
        )
        again.write()
        after = _trained(again, waiting)
    if after["environment"] != before["environment"]:
        raise SpecError(
            f"{folder}: the bench ran elsewhere ({before['environment']}), and here ({after['environment']}) other "
            "weights would say nothing. Run the audit there."
        )
    return Audited(after["ledger"]["updates"], after["ledger"]["audit_ratio"], tuple(_faults(before, after)))


def _check_code(folder: Path) -> None:
    bench = cast(Bench | None, read_json(folder / "bench.json"))
    if bench is None:
        raise StorageError(f"{folder}: has no bench.json. Name the folder of a bench, as zoo-runs/quick.")
    now = code_now()
    changed = [name for name, code in bench["code"].items() if now.get(name) != code]
    if changed:
        raise SpecError(
            f"{folder}: the code of {', '.join(changed)} is no longer that of the bench, so other weights would say "
            f"nothing. Check out {bench['commit'] or 'the code it ran with'}, or run the bench again."
        )


def _trained(job: Job, waiting: Waiting) -> Trained:
    outcomes: list[Outcome] = []
    waiting.says(f"training {job.row} seed {job.seed} again, with every update audited", 1)
    local.run([job], lambda _, outcome: outcomes.append(outcome), 1, waiting.watch)
    found = cast(Trained | None, job.result())
    if found is None:
        raise ZooError(f"{job.row} seed {job.seed} failed while it was audited: {outcomes[0].error}")
    return found


def _faults(before: Trained, after: Trained) -> list[str]:
    faults = []
    ratio = after["ledger"]["audit_ratio"]
    if ratio is None or abs(ratio - 1) > AUDIT_MARGIN:
        faults.append(f"the meter charged {ratio or 0:.3f} of the FLOPs that were counted in all its updates")
    if after["weights_sha256"] != before["weights_sha256"]:
        faults.append("it ends at other weights when all its updates are audited: it can tell, and computes otherwise")
    if after["ledger"]["flops"] != before["ledger"]["flops"]:
        faults.append(
            f"it is charged {after['ledger']['flops']:.6g} FLOPs when all its updates are audited, and was charged "
            f"{before['ledger']['flops']:.6g}"
        )
    return faults
