"""RLAIF, d-RLAIF and Constitutional AI pass the suite, learn what a judge likes, and find a known optimum."""

import math

import pytest
import torch
from zoo_rlaif.cai import train as train_cai
from zoo_rlaif.cai_config import CAIConfig
from zoo_rlaif.config import DirectRLAIFConfig, RLAIFConfig
from zoo_rlaif.d_rlaif import train as train_d_rlaif
from zoo_rlaif.reinforce import reinforce
from zoo_rlaif.rlaif import train as train_rlaif

from zoo_core.reward import Calibration
from zoo_core.run import Run
from zoo_core.testing.suite import AlgorithmSuite
from zoo_core.testing.tiny import share_of_a, tiny_encoder, tiny_session
from zoo_core.testing.toys import ARMS, BANDIT, PROMPTS, arm_probabilities, bandit, five_letters, reward_of_arms

WHOLE = {"revise_share": 1.0, "tuning_share": 1.0, "label_share": 1.0, "reward_share": 1.0}


# An update that asks the judge costs far less than one of the last stage, and the reward is calibrated between them;
# so budgets are a large number of first updates.
class TestRLAIF(AlgorithmSuite):
    name = "rlaif"
    settings = {
        "pairs": 16,
        "pairs_per_update": 8,
        "label_share": 1.0,
        "reward_epochs": 1.0,
        "reward_batch_size": 8,
        "reward_share": 1.0,
        "batch_size": 32,
    }
    updates = 95.0
    loops = 3
    learns_with = {"learning_rate": 3e-2, "reward_learning_rate": 5e-3, "pairs": 64, "reward_epochs": 4.0}


class TestDirectRLAIF(AlgorithmSuite):
    name = "d-rlaif"
    settings = {"batch_size": 32}
    updates = 1.9


class TestCAI(AlgorithmSuite):
    name = "cai"
    settings = {
        "revised_prompts": 8,
        "prompts_per_update": 8,
        "pairs": 8,
        "pairs_per_update": 8,
        "reward_epochs": 1.0,
        "reward_batch_size": 8,
        "batch_size": 32,
        **WHOLE,
    }
    updates = 190.0
    loops = 5


def share(session):
    """Return the share of a in 256 samples of a session's policy."""
    rollout = Run(tiny_session(["prompts"], policy=session.policy)).sample(
        session.encoder.prompts([row.prompt for row in PROMPTS["prompts"]] * 64)
    )
    return sum(share_of_a(rollout.samples)) / 256


def trained(train, config, budget):
    """Train on a judge that likes the letter a; return the session and the metrics."""
    session = tiny_session(["prompts", "judge"], policy=five_letters(), rows=PROMPTS, budget=budget)
    return session, list(train(config, Run(session)))


@pytest.mark.slow
def test_rlaif_says_more_of_what_the_judge_likes_without_a_human_label():
    config = RLAIFConfig(
        pairs=128, label_share=1.0, reward_epochs=6.0, reward_learning_rate=5e-3, reward_share=1.0, learning_rate=1e-2
    )
    session, history = trained(train_rlaif, config, 6e9)
    agreement = [metrics["agreement"] for metrics in history if "agreement" in metrics]
    scores = [metrics["score"] for metrics in history if "score" in metrics]
    assert sum(agreement[-4:]) / 4 > 0.9
    assert scores[0] < -0.5  # many responses do not end yet
    assert sum(scores[-4:]) / 4 > 0.8
    assert share(session) > 0.5 > 2 * share(tiny_session(policy=five_letters()))
    assert session.ledger.judge_calls == 2 * 128
    assert set(session.ledger.rows) == {"prompts"}


@pytest.mark.slow
def test_d_rlaif_climbs_the_ratings_themselves():
    session, history = trained(
        train_d_rlaif, DirectRLAIFConfig(batch_size=32, learning_rate=1e-2, kl_coefficient=0.05), 4e9
    )
    assert sum(metrics["score"] for metrics in history[-4:]) / 4 > 1.0
    assert share(session) > 0.5
    # 256 samples to calibrate on, and the batches; one batch more if the last was undone.
    assert session.ledger.judge_calls == 256 + 32 * session.ledger.updates
    assert all(metrics["abstained"] == 4 / 32 for metrics in history)  # `LikesA` does so on every seventh


@pytest.mark.slow
def test_constitutional_ai_learns_the_revisions_first():
    # `LikesA` revises every answer to a row of a's; learning those alone makes the policy say them.
    config = CAIConfig(
        revised_prompts=64, tuning_epochs=8.0, tuning_learning_rate=1e-2, pairs=32, reward_epochs=2.0, **WHOLE
    )
    session, shares = tiny_session(["prompts", "judge"], policy=five_letters(), rows=PROMPTS, budget=4e9), []
    for metrics in train_cai(config, Run(session)):
        if "same_position" in metrics and not shares:
            shares.append(share(session))
    assert shares[0] > 0.8
    assert "clip_fraction" in metrics  # of PPO, which comes last
    assert share(session) > 0.8
    assert set(session.ledger.rows) == {"prompts"}


@pytest.mark.slow
def test_in_a_bandit_reinforce_ends_at_the_reference_tilted_by_the_mixed_reward():
    # The best policy of (1 − β) E[r] − β KL(π‖π_ref) is π ∝ π_ref exp((1 − β) r/β): with β = .4, exp(1.5 r).
    beta = 0.4
    session = tiny_session(["prompts"], policy=bandit(), budget=1.2e9, **BANDIT)
    run = Run(session).stage("reinforce", reward=reward_of_arms, calibration=Calibration(mean=0.0, deviation=1.0))
    start = arm_probabilities(session.policy)
    config = DirectRLAIFConfig(batch_size=64, learning_rate=5e-3, kl_coefficient=beta)
    history = list(reinforce(config, run))
    optimum = start * torch.tensor([math.exp((1 - beta) * reward / beta) for reward in ARMS.values()])
    optimum /= optimum.sum()
    assert 0.5 * (start - optimum).abs().sum() > 0.2
    assert 0.5 * (arm_probabilities(session.policy) - optimum).abs().sum() < 0.05
    assert history[0]["kl"] == pytest.approx(0.0, abs=1e-5)
    assert all(metrics["ended"] == 1.0 for metrics in history)


def test_a_response_that_does_not_end_is_worth_its_price_whatever_the_reward_says():
    session = tiny_session(["prompts"], encoder=tiny_encoder(response_tokens=1), rows=PROMPTS)
    run = Run(session).stage("reinforce", reward=lambda samples: [5.0 for _ in samples])
    metrics = next(reinforce(DirectRLAIFConfig(batch_size=512, missing_eos_score=-2.0), run))
    # One token can end it or not: 5 where it does, −2 where not.
    assert 0 < metrics["ended"] < 1
    assert metrics["score"] == pytest.approx(5 * metrics["ended"] - 2 * (1 - metrics["ended"]))
