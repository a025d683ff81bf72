"""RLOO passes the suite, climbs a reward, and finds the optimum of a problem solved by hand."""

import math

import pytest
import torch
from zoo_rloo.config import RLOOConfig
from zoo_rloo.train import train

from zoo_core.testing.suite import AlgorithmSuite
from zoo_core.testing.tiny import tiny_encoder
from zoo_core.testing.toys import ARMS, BANDIT, arm_probabilities, bandit, trained


class TestRLOO(AlgorithmSuite):
    name = "rloo"
    settings = {"batch_size": 8}


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_before_the_first_step_the_policy_is_its_reference(temperature):
    _, history = trained(train, 1.05, RLOOConfig(batch_size=16, temperature=temperature))
    assert history[0]["kl"] == pytest.approx(0.0, abs=1e-5)


def test_the_score_climbs():
    _, history = trained(train, 40, RLOOConfig(batch_size=32, learning_rate=1e-2, kl_coefficient=0.0))
    assert history[0]["score"] < 0.0
    assert sum(metrics["score"] for metrics in history[-5:]) / 5 > 0.7


def test_the_more_divergence_costs_the_less_there_is():
    def divergence(beta):
        _, history = trained(train, 12, RLOOConfig(batch_size=32, learning_rate=1e-2, kl_coefficient=beta))
        return sum(metrics["kl"] for metrics in history[-4:]) / 4

    cheap, dear = divergence(0.01), divergence(1.0)
    assert cheap > 1.0
    assert dear < 0.5 * cheap


def test_where_a_constant_is_given_a_response_that_does_not_end_is_worth_it_whatever_the_reward_says():
    encoder = tiny_encoder(response_tokens=1)
    settings = {"encoder": encoder, "reward": lambda samples: [100.0 for _ in samples]}
    _, history = trained(train, 1.05, RLOOConfig(batch_size=16, missing_eos_score=-3.0), **settings)
    ended = history[0]["ended"]
    assert ended < 1.0
    assert history[0]["score"] == pytest.approx(100.0 * ended - 3.0 * (1.0 - ended), abs=1e-4)


def test_what_is_rewarded_alike_teaches_nothing():
    settings = {"reward": lambda samples: [2.0 for _ in samples]}
    _, history = trained(train, 1.05, RLOOConfig(batch_size=16, missing_eos_score=2.0, kl_coefficient=0.0), **settings)
    assert history[0]["advantage_deviation"] == 0.0
    assert history[0]["gradient_norm"] == 0.0


@pytest.mark.slow
def test_in_a_bandit_it_ends_at_the_reference_tilted_by_the_reward():
    # The best policy of E[r] − β KL(π‖π_ref) is π ∝ π_ref exp(r/β) (Ziegler et al. 2019; Rafailov et al. 2023, eq. 4).
    beta = 0.5
    start = arm_probabilities(bandit())
    config = RLOOConfig(batch_size=64, samples_per_prompt=8, learning_rate=1e-2, kl_coefficient=beta)
    session, history = trained(train, 60, config, bandit, **BANDIT)
    optimum = start * torch.tensor([math.exp(reward / beta) for reward in ARMS.values()])
    optimum /= optimum.sum()
    assert all(metrics["ended"] == 1.0 for metrics in history)
    assert 0.5 * (start - optimum).abs().sum() > 0.2
    assert 0.5 * (arm_probabilities(session.policy) - optimum).abs().sum() < 0.05


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples_per_prompt": 1}, "samples_per_prompt=1 must be 2 or more"),
        ({"batch_size": 30, "samples_per_prompt": 4}, "batch_size=30 must be a multiple of samples_per_prompt=4"),
        ({"batch_size": 0}, "batch_size=0 must be 1 or more"),
        ({"temperature": 0.0}, "temperature=0.0 must be above 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RLOOConfig(**settings)
