"""GRPO passes the suite, climbs a reward, and finds the optimum of a problem solved by hand."""

import pytest
import torch
from zoo_grpo.config import GRPOConfig
from zoo_grpo.train import train

from zoo_core.run import Run
from zoo_core.testing.suite import AlgorithmSuite
from zoo_core.testing.tiny import tiny_encoder, tiny_session
from zoo_core.testing.toys import ARMS, BANDIT, arm_probabilities, bandit, reward_of_arms, trained
from zoo_core.testing.witness import same_weights, weights


class TestGRPO(AlgorithmSuite):
    name = "grpo"
    settings = {"batch_size": 8, "group_size": 4, "minibatch_size": 4}


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_before_the_first_step_the_policy_is_its_reference(temperature):
    _, history = trained(train, 1.05, GRPOConfig(batch_size=16, minibatch_size=16, temperature=temperature))
    assert history[0]["kl"] == pytest.approx(0.0, abs=1e-5)
    assert history[0]["clip_fraction"] == 0.0
    assert history[0]["approximate_kl"] < 1e-10


@pytest.mark.parametrize(
    ("aggregation", "scale_rewards"), [("grpo", True), ("dapo", True), ("dr_grpo", False)], ids=lambda value: str(value)
)
def test_the_score_climbs_whatever_the_aggregation(aggregation, scale_rewards):
    config = GRPOConfig(
        batch_size=32,
        minibatch_size=16,
        learning_rate=1e-2,
        kl_coefficient=0.0,
        aggregation=aggregation,
        scale_rewards=scale_rewards,
    )
    _, history = trained(train, 25, config)
    assert history[0]["score"] < 0.0
    assert sum(metrics["score"] for metrics in history[-5:]) / 5 > history[0]["score"] + 0.8


@pytest.mark.parametrize("estimate", ["k3", "unbiased"])
def test_the_more_divergence_costs_the_less_there_is(estimate):
    def divergence(beta):
        config = GRPOConfig(
            batch_size=32, minibatch_size=16, learning_rate=1e-2, kl_coefficient=beta, kl_estimate=estimate
        )
        _, history = trained(train, 12, config)
        return sum(metrics["kl"] for metrics in history[-4:]) / 4

    cheap, dear = divergence(0.01), divergence(1.0)
    assert cheap > 1.0
    assert dear < 0.5 * cheap


def test_where_a_constant_is_given_a_response_that_does_not_end_is_worth_it_whatever_the_reward_says():
    settings = {"encoder": tiny_encoder(response_tokens=1), "reward": lambda samples: [100.0 for _ in samples]}
    _, history = trained(train, 1.05, GRPOConfig(batch_size=16, minibatch_size=16, missing_eos_score=-3.0), **settings)
    ended = history[0]["ended"]
    assert ended < 1.0
    assert history[0]["score"] == pytest.approx(100.0 * ended - 3.0 * (1.0 - ended), abs=1e-4)


def test_groups_that_are_rewarded_alike_teach_nothing():
    session = tiny_session(["prompts", "reward"], reward=lambda samples: [2.0 for _ in samples])
    start = weights(session.policy)
    config = GRPOConfig(batch_size=16, minibatch_size=16, missing_eos_score=2.0, kl_coefficient=0.0)
    metrics = next(train(config, Run(session)))
    assert metrics["zero_spread"] == 1.0
    assert same_weights(session.policy, start)


def test_the_constant_of_dr_grpo_is_the_longest_response_there_may_be_not_the_longest_there_is():
    # Bandits say two tokens whatever the limit. Half a group to a minibatch: its advantages do not sum to 0.
    def loss(response_tokens):
        settings = {"encoder": tiny_encoder(response_tokens), "reward": reward_of_arms}
        config = GRPOConfig(batch_size=8, minibatch_size=4, aggregation="dr_grpo", learning_rate=1e-12)
        session = tiny_session(["prompts", "reward"], policy=bandit(), **settings)
        metrics = next(train(config, Run(session)))
        assert metrics["length"] == 2.0
        return metrics["loss"]

    assert abs(loss(2)) > 0.01
    assert loss(20) == pytest.approx(loss(2) / 10, rel=1e-4)


@pytest.mark.slow
def test_in_a_bandit_it_ends_where_reward_and_divergence_pull_alike():
    # Without scaling: π = β π_ref/(λ − r), with β larger by G/(G−1) for the own score in the baseline and with λ such
    # that it sums to 1 (worked out in test_grpo_loss.py).
    beta = 0.35
    rewards = torch.tensor(list(ARMS.values()))

    def tilted(level):
        return beta * 8 / 7 * start / (level - rewards)

    start = arm_probabilities(bandit())
    config = GRPOConfig(batch_size=64, minibatch_size=64, learning_rate=1e-2, kl_coefficient=beta, scale_rewards=False)
    session, history = trained(train, 60, config, bandit, **BANDIT)
    low, high = 1.0 + 1e-6, 10.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if tilted(middle).sum() > 1 else (low, middle)
    optimum = tilted(low)
    assert all(metrics["ended"] == 1.0 for metrics in history)
    assert 0.5 * (start - optimum).abs().sum() > 0.2
    assert 0.5 * (arm_probabilities(session.policy) - optimum).abs().sum() < 0.05


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"group_size": 1}, "group_size=1 must be 2 or more"),
        ({"minibatch_size": 0}, "minibatch_size=0 must be 1 or more"),
        ({"epochs": 0}, "epochs=0 must be 1 or more"),
        ({"batch_size": 60}, "batch_size=60 must be a multiple of group_size=8"),
        ({"batch_size": 0}, "batch_size=0 must be 1 or more"),
        ({"batch_size": 64, "minibatch_size": 24}, "minibatch_size=24 must divide batch_size=64"),
        ({"temperature": 0.0}, "temperature=0.0 must be above 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        GRPOConfig(**settings)
