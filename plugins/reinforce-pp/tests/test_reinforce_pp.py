"""Both forms of REINFORCE++ pass the suite, climb a reward, and find the optimum of a problem solved by hand."""

import math

import pytest
import torch
from zoo_reinforce_pp.config import ReinforcePPBaselineConfig, ReinforcePPConfig
from zoo_reinforce_pp.train import train, train_with_baseline

from zoo_core.testing.suite import AlgorithmSuite
from zoo_core.testing.toys import ARMS, BANDIT, arm_probabilities, bandit, trained

FORMS = [(train, ReinforcePPConfig), (train_with_baseline, ReinforcePPBaselineConfig)]
both_forms = pytest.mark.parametrize(("loop", "settings_of"), FORMS, ids=["plain", "baseline"])


class TestReinforcePP(AlgorithmSuite):
    name = "reinforce-pp"
    settings = {"batch_size": 8, "minibatch_size": 4}


class TestReinforcePPBaseline(AlgorithmSuite):
    name = "reinforce-pp-baseline"
    settings = {"batch_size": 8, "minibatch_size": 4}


@both_forms
@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_before_the_first_step_the_policy_is_its_reference(loop, settings_of, temperature):
    config = settings_of(batch_size=16, minibatch_size=16, temperature=temperature)
    _, history = trained(loop, 1.05, config)
    assert history[0]["kl"] == pytest.approx(0.0, abs=1e-5)
    assert history[0]["clip_fraction"] == 0.0


@both_forms
def test_the_score_climbs(loop, settings_of):
    config = settings_of(batch_size=32, minibatch_size=16, learning_rate=1e-2, kl_coefficient=0.0)
    _, history = trained(loop, 40, config)
    assert history[0]["score"] < 0.0
    assert sum(metrics["score"] for metrics in history[-5:]) / 5 > 0.7


@both_forms
def test_what_is_rewarded_alike_teaches_nothing(loop, settings_of):
    config = settings_of(batch_size=16, minibatch_size=16, missing_eos_score=2.0, kl_coefficient=0.0)
    _, history = trained(loop, 1.05, config, reward=lambda samples: [2.0 for _ in samples])
    assert history[0]["gradient_norm"] == 0.0


@pytest.mark.slow
@pytest.mark.parametrize(("loop", "settings_of", "share"), [(*FORMS[0], 1.0), (*FORMS[1], 3 / 4)], ids=["plain", "k=4"])
def test_in_a_bandit_it_ends_at_the_reference_tilted_by_the_reward(loop, settings_of, share):
    # The best policy of E[r] − β KL(π‖π_ref) is π ∝ π_ref exp(r/β) (Ziegler et al. 2019; Rafailov et al. 2023, eq. 4).
    # A mean of k scores with one's own among them leaves (k−1)/k of the score's gradient, and all of the divergence's.
    beta = 0.5
    start = arm_probabilities(bandit())
    config = settings_of(batch_size=128, minibatch_size=128, learning_rate=5e-3, kl_coefficient=beta)
    session, history = trained(loop, 120, config, bandit, **BANDIT)
    optimum = start * torch.tensor([math.exp(share * reward / beta) for reward in ARMS.values()])
    optimum /= optimum.sum()
    assert all(metrics["ended"] == 1.0 for metrics in history)
    assert 0.5 * (start - optimum).abs().sum() > 0.15
    assert 0.5 * (arm_probabilities(session.policy) - optimum).abs().sum() < 0.05


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples_per_prompt": 1}, "samples_per_prompt=1 must be 2 or more"),
        ({"batch_size": 32, "minibatch_size": 16, "samples_per_prompt": 3}, "batch_size=32 must be a multiple of"),
        ({"batch_size": 0}, "batch_size=0 must be 1 or more"),
        ({"minibatch_size": 48}, "minibatch_size=48 must divide batch_size=64"),
        ({"temperature": 0.0}, "temperature=0.0 must be above 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ReinforcePPBaselineConfig(**settings)
