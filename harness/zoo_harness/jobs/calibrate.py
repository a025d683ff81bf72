"""The job that brings a reward to mean 0 and standard deviation 1 on samples of `start`.

What it costs is charged to every row that learns from the reward.
"""

from typing import Any

from zoo_core.calibration import calibrate
from zoo_core.run import RAW, Run
from zoo_harness.job import Job
from zoo_harness.jobs.materials import open_reward, sampling


def run(job: Job) -> dict[str, Any]:
    """Sample `start` on training prompts at temperature 1, score, and save mean and deviation."""
    session = sampling(job)
    session.reward = open_reward(job.payload["reward"], job.payload["reward_model"])
    session.calibration = RAW
    calibrate(Run(session)).save(job.directory)
    session.tick()
    return {"identity": job.identity, "ledger": session.ledger.report()}
