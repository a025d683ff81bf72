"""Standardise a reward: mean 0 and standard deviation 1 on samples of a policy.

A KL coefficient has a meaning only in units of the reward; without this a comparison of algorithms under two rewards
would compare their scales.
"""

import torch

from zoo_core.reward import Calibration, Reward
from zoo_core.run import Run

SAMPLES = 256
"""Number of samples that a reward is standardised on (Ziegler et al. 2019, arXiv:1909.08593, section 2.1)."""
BATCH = 64
"""Number of prompts that are answered at once."""


def calibrate(run: Run) -> Calibration:
    """Sample the policy on training prompts at temperature 1; return mean and deviation of `run.reward` on them."""
    scores = []
    for batch in range(SAMPLES // BATCH):
        rollout = run.sample(run.prompts.batch(batch, BATCH))
        scores.append(run.reward(rollout.samples))
    every = torch.cat(scores)
    deviation = every.std(correction=0).item()
    # A reward that gives every sample the same score has no scale to bring to 1.
    return Calibration(every.mean().item(), deviation if deviation > 0 else 1.0)


def standardised(run: Run, name: str, reward: Reward) -> Run:
    """Return a stage of `run` that learns from `reward`, standardised on samples of the policy at this moment."""
    calibration = calibrate(run.stage("calibrate", reward=reward))
    return run.stage(name, reward=reward, calibration=calibration)
