"""The job that brings a reward to mean 0 and standard deviation 1 on samples of `start`.

What it costs is charged to every row that learns from the reward.
"""

from zoo_core.calibration import calibrate
from zoo_core.run import RAW, Run
from zoo_harness.job import Job
from zoo_harness.jobs.materials import open_reward, sampling
from zoo_harness.payloads import Calibrating
from zoo_harness.results import Staged


def run(job: Job) -> Staged:
    """Sample `start` on training prompts at temperature 1, score, and save mean and deviation."""
    payload = Calibrating.of(job.payload)
    session = sampling(payload, job.seed)
    session.reward = open_reward(payload.reward, payload.reward_model)
    session.calibration = RAW
    calibrate(Run(session)).save(job.directory)
    session.tick()
    return {"identity": job.identity, "ledger": session.ledger.report()}
