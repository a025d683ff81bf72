"""Online DPO passes the suite, climbs a reward, and makes DPO's step on its own pairs."""

import math

import pytest
from zoo_dpo.loss import dpo_loss
from zoo_online_dpo.config import OnlineDPOConfig
from zoo_online_dpo.train import train

from zoo_core.run import Run
from zoo_core.testing.suite import AlgorithmSuite
from zoo_core.testing.tiny import tiny_session
from zoo_core.testing.toys import BANDIT, arm_probabilities, bandit, trained
from zoo_core.testing.witness import same_weights, weights


class TestOnlineDPO(AlgorithmSuite):
    name = "online-dpo"
    settings = {"batch_size": 4, "learning_rate": 1e-3}


def test_the_first_loss_is_log_2():
    metrics = next(train(OnlineDPOConfig(batch_size=8), Run(tiny_session(["prompts", "reward"]))))
    assert metrics["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert metrics["chosen_reward"] == pytest.approx(0.0, abs=1e-5)


def test_the_score_climbs():
    _, history = trained(train, 30, OnlineDPOConfig(batch_size=16, learning_rate=1e-2))
    assert history[0]["score"] < 0.0
    assert sum(metrics["score"] for metrics in history[-5:]) / 5 > history[0]["score"] + 0.8


def test_the_loss_is_that_of_dpo_on_pairs_whose_first_scored_more(monkeypatch):
    seen = []

    def watched(chosen, rejected, beta):
        seen.append((chosen.detach(), rejected.detach(), beta))
        return dpo_loss(chosen, rejected, beta)

    monkeypatch.setattr("zoo_online_dpo.train.dpo_loss", watched)
    steps = train(OnlineDPOConfig(batch_size=8, beta=0.3, learning_rate=1e-2), Run(tiny_session(["prompts", "reward"])))
    history = [next(steps) for _ in range(3)]
    for metrics, (chosen, rejected, beta) in zip(history, seen, strict=True):
        assert len(chosen) == len(rejected) == round(8 * (1 - metrics["dropped"]))
        assert metrics["loss"] == dpo_loss(chosen, rejected, beta).item()
        assert beta == 0.3


def test_prompts_whose_responses_tie_make_no_step_and_are_charged():
    session = tiny_session(["prompts", "reward"], reward=lambda samples: [2.0 for _ in samples])
    start = weights(session.policy)
    metrics = next(train(OnlineDPOConfig(batch_size=8, missing_eos_score=2.0), Run(session)))
    assert metrics["dropped"] == 1.0
    assert session.ledger.optimizer_steps == 0
    assert session.ledger.reward_queries == 16
    assert session.ledger.flops > 0
    assert same_weights(session.policy, start)


@pytest.mark.slow
def test_a_bandit_goes_to_its_best_arm():
    config = OnlineDPOConfig(batch_size=32, samples_per_prompt=4, learning_rate=1e-2)
    session, _ = trained(train, 40, config, bandit, **BANDIT)
    assert arm_probabilities(bandit())[2] < 0.5
    assert arm_probabilities(session.policy)[2] > 0.9


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size=0 must be 1 or more"),
        ({"samples_per_prompt": 1}, "samples_per_prompt=1 must be 2 or more"),
        ({"temperature": 0.0}, "temperature=0.0 must be above 0"),
        ({"missing_eos_penalty": -1.0}, "missing_eos_penalty=-1.0"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        OnlineDPOConfig(**settings)
