"""The job that brings a reward to mean 0 and standard deviation 1 on samples of `start`.

A KL coefficient has a meaning only in units of the reward; without this a comparison of algorithms under two rewards
would compare their scales. What it costs is charged to every row that learns from the reward.
"""

from pathlib import Path
from typing import Any

import torch

from zoo_core.models import load_policy
from zoo_core.reward import Calibration
from zoo_core.run import Run, Session
from zoo_harness.jobs import Job
from zoo_harness.plan import CALIBRATION_SAMPLES
from zoo_harness.spec import Spec
from zoo_harness.work import Materials, open_reward

BATCH = 64


def run(job: Job) -> dict[str, Any]:
    """Sample `start` on training prompts at temperature 1, score, and save mean and deviation."""
    payload = job.payload
    materials = Materials(Spec(**payload["spec"]))
    reward_model = payload["reward_model"]
    session = Session(
        policy=load_policy(Path(payload["start"]) if payload["start"] else materials.base),
        encoder=materials.encoder,
        seed=job.seed,
        budget=float("inf"),
        rows=materials.signals(("prompts",), job.seed),
        reward=open_reward(materials.spec.reward, Path(reward_model) if reward_model else None),
        calibration=Calibration(mean=0.0, deviation=1.0),
        engine=materials.engine(),
    )
    run = Run(session, "")
    scores = []
    for batch in range(CALIBRATION_SAMPLES // BATCH):
        rollout = run.sample(run.prompts.batch(batch, BATCH))
        scores.append(run.reward(rollout.samples))
    all_scores = torch.cat(scores)
    deviation = all_scores.std(correction=0).item()
    # A reward that gives every sample the same score has no scale to bring to 1.
    Calibration(all_scores.mean().item(), deviation if deviation > 0 else 1.0).save(job.directory)
    session.tick()
    return {"identity": job.identity, "ledger": session.ledger.report()}
