"""PPO passes the suite, climbs a reward, and finds the optimum of a problem solved by hand."""

import math

import pytest
import torch
from zoo_ppo.config import PPOConfig
from zoo_ppo.train import explained_variance, train

from zoo_core.testing.suite import AlgorithmSuite
from zoo_core.testing.tiny import tiny_encoder
from zoo_core.testing.toys import ARMS, BANDIT, arm_probabilities, bandit, trained


class TestPPO(AlgorithmSuite):
    name = "ppo"
    settings = {"batch_size": 8, "minibatch_size": 4, "epochs": 1}


def wide_bandit():
    """Return a bandit whose head is wide enough to say anything even while it is frozen."""
    return bandit(initializer_range=0.2)


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_before_the_first_step_the_policy_is_where_it_sampled(temperature):
    _, history = trained(train, 1.05, PPOConfig(batch_size=16, minibatch_size=16, epochs=1, temperature=temperature))
    assert history[0]["clip_fraction"] == 0.0
    assert history[0]["approximate_kl"] < 1e-10
    assert history[0]["kl"] == pytest.approx(0.0, abs=1e-5)


def test_explained_variance_is_one_for_a_seer_zero_for_the_mean_and_zero_where_nothing_varies():
    slots = torch.tensor([[True, True, True, False], [True, False, False, False]])
    returns = torch.tensor([[1.0, 2.0, 3.0, 99.0], [6.0, 99.0, 99.0, 99.0]])  # mean 3, variance (4 + 1 + 0 + 9)/4 = 3.5
    assert explained_variance(returns, returns, slots) == 1.0
    assert explained_variance(torch.full((2, 4), 3.0), returns, slots) == 0.0
    # Values of 2 are off by 1, 0, 1 and 4: 1 − (18/4)/3.5 = −2/7.
    assert explained_variance(torch.full((2, 4), 2.0), returns, slots).item() == pytest.approx(-2 / 7)
    assert explained_variance(torch.zeros(2, 4), torch.ones(2, 4), slots) == 0.0


def test_the_score_climbs():
    _, history = trained(
        train, 25, PPOConfig(batch_size=32, minibatch_size=16, learning_rate=5e-3, kl_coefficient=0.0, epochs=1)
    )
    assert history[0]["score"] < 0.0
    assert sum(metrics["score"] for metrics in history[-5:]) / 5 > 0.7


def test_the_more_divergence_costs_the_less_there_is():
    def divergence(beta):
        config = PPOConfig(batch_size=32, minibatch_size=16, learning_rate=1e-2, kl_coefficient=beta, epochs=1)
        _, history = trained(train, 12, config)
        return sum(metrics["kl"] for metrics in history[-4:]) / 4

    cheap, dear = divergence(0.01), divergence(1.0)
    assert cheap > 1.0
    assert dear < 0.5 * cheap


def test_the_coefficient_is_steered_by_the_kl_of_each_update():
    config = PPOConfig(batch_size=8, minibatch_size=8, learning_rate=1e-2, epochs=2, kl_target=0.05, kl_horizon=80.0)
    session, history = trained(train, 5.5, config)
    # β (1 + e/10) for 8 responses in 80, with e = KL/.05 − 1 clipped to a fifth: up or down by at most a fiftieth.
    expected, errors = config.kl_coefficient, [min(max(metrics["kl"] / 0.05 - 1, -0.2), 0.2) for metrics in history]
    for error in errors[: session.ledger.updates]:
        expected *= 1 + error / 10
    assert errors[0] == -0.2  # at first policy and reference are one
    assert max(errors) == 0.2
    assert session.kept["beta"]["now"] == pytest.approx(expected)


def test_the_critic_learns_what_there_is_to_come():
    # Every answer is worth 2 at its end and nothing is paid before: so is every state on the way.
    encoder = tiny_encoder(response_tokens=2)
    config = PPOConfig(
        batch_size=16,
        minibatch_size=16,
        learning_rate=1e-2,
        kl_coefficient=0.0,
        gae_lambda=1.0,
        value_clip_range=1e9,
        epochs=1,
    )
    settings = {"encoder": encoder, "reward": lambda samples: [2.0 for _ in samples]}
    session, history = trained(train, 40, config, wide_bandit, **settings)
    with torch.no_grad():
        values = session.kept["critic"](encoder.responses([("bcd", "a"), ("e", "c")]))
    assert history[0]["value_loss"] == pytest.approx(2.0, abs=1e-3)  # ½ (0 − 2)²
    assert values.flatten().tolist() == pytest.approx([2.0] * 6, abs=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("models", ["separate", "hydra", "lora"])
def test_in_a_bandit_it_ends_at_the_reference_tilted_by_the_reward(models):
    # The best policy of E[r] − β KL(π‖π_ref) is π ∝ π_ref exp(r/β) (Ziegler et al. 2019; Rafailov et al. 2023, eq. 4).
    beta = 0.5
    settings = {"learning_rate": 1e-2, "kl_coefficient": beta, "gae_lambda": 1.0, "value_clip_range": 1e9}
    config = PPOConfig(batch_size=32, minibatch_size=16, models=models, **settings)
    start = arm_probabilities(wide_bandit())
    session, history = trained(train, 45, config, wide_bandit, **BANDIT)
    optimum = start * torch.tensor([math.exp(reward / beta) for reward in ARMS.values()])
    optimum /= optimum.sum()
    assert all(metrics["ended"] == 1.0 for metrics in history)
    assert 0.5 * (start - optimum).abs().sum() > 0.2
    assert 0.5 * (arm_probabilities(session.policy) - optimum).abs().sum() < 0.05
