"""The job that brings a reward to mean 0 and standard deviation 1 on samples of `start`.

What it costs is charged to every row that learns from the reward.
"""

from pathlib import Path
from typing import Any

from zoo_core.calibration import calibrate
from zoo_core.models import load_policy
from zoo_core.run import RAW, Run, Session
from zoo_harness.jobs import Job
from zoo_harness.work import Materials, open_reward


def run(job: Job) -> dict[str, Any]:
    """Sample `start` on training prompts at temperature 1, score, and save mean and deviation."""
    payload = job.payload
    materials = Materials.of(payload)
    session = Session(
        policy=load_policy(Path(payload["start"]) if payload["start"] else materials.base),
        encoder=materials.encoder,
        seed=job.seed,
        budget=float("inf"),
        rows=materials.signals(("prompts",), job.seed),
        reward=open_reward(payload["reward"], payload["reward_model"]),
        calibration=RAW,
        engine=materials.engine(),
    )
    calibrate(Run(session)).save(job.directory)
    session.tick()
    return {"identity": job.identity, "ledger": session.ledger.report()}
