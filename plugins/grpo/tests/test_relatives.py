"""The relatives of GRPO pass the suite, climb a reward, and sample as they say."""

import pytest
import torch
from zoo_grpo.groups import Groups
from zoo_grpo.relatives import CISPOConfig, DAPOConfig, DrGRPOConfig, GSPOConfig
from zoo_grpo.train import train_cispo, train_dapo, train_dr_grpo, train_gspo

from zoo_core.rollout import response_logprobs
from zoo_core.run import Run
from zoo_core.testing.suite import AlgorithmSuite
from zoo_core.testing.tiny import tiny_encoder, tiny_session
from zoo_core.testing.toys import BANDIT, arm_probabilities, bandit, trained
from zoo_core.testing.witness import same_weights, weights

SMALL = {"batch_size": 8, "group_size": 4, "minibatch_size": 4}
RELATIVES = [
    (train_dr_grpo, DrGRPOConfig),
    (train_dapo, DAPOConfig),
    (train_gspo, GSPOConfig),
    (train_cispo, CISPOConfig),
]
each_relative = pytest.mark.parametrize(("train", "config"), RELATIVES, ids=["dr-grpo", "dapo", "gspo", "cispo"])


class TestDrGRPO(AlgorithmSuite):
    name = "dr-grpo"
    settings = SMALL


class TestDAPO(AlgorithmSuite):
    name = "dapo"
    settings = SMALL


class TestDAPOThatDrawsAgain(AlgorithmSuite):
    """With groups of two, many of which score alike and are replaced."""

    name = "dapo"
    settings = {"batch_size": 8, "group_size": 2, "minibatch_size": 4, "overlong_penalty": 0.0}


class TestGSPO(AlgorithmSuite):
    name = "gspo"
    settings = SMALL


class TestCISPO(AlgorithmSuite):
    name = "cispo"
    settings = SMALL


@each_relative
def test_the_score_climbs_and_no_reference_is_held(train, config):
    session, history = trained(train, 25, config(batch_size=32, minibatch_size=16, learning_rate=1e-2))
    assert history[0]["score"] < 0.0
    assert sum(metrics["score"] for metrics in history[-5:]) / 5 > history[0]["score"] + 0.8
    assert session.references == []
    assert not [cell for cell in session.ledger.report()["flops_by_role_phase"] if cell.startswith("reference/")]


@each_relative
def test_groups_that_are_rewarded_alike_teach_nothing(train, config):
    session = tiny_session(["prompts", "reward"], reward=lambda samples: [2.0 for _ in samples])
    start = weights(session.policy)
    settings = {"overlong_penalty": 0.0} if config is DAPOConfig else {"missing_eos_score": 2.0}
    metrics = next(train(config(batch_size=16, minibatch_size=16, **settings), Run(session)))
    assert metrics["zero_spread"] == 1.0
    assert same_weights(session.policy, start)


@pytest.mark.slow
@each_relative
def test_without_a_divergence_a_bandit_ends_at_its_best_arm(train, config):
    config = config(batch_size=64, minibatch_size=64, learning_rate=1e-2)
    session, _ = trained(train, 60, config, bandit, **BANDIT)
    assert arm_probabilities(bandit())[2] < 0.5
    assert arm_probabilities(session.policy)[2] > 0.95


# Dynamic sampling


def alike(samples):
    """Score all responses alike."""
    return [1.0 for _ in samples]


def dapo_update(reward, **settings):
    """Return the metrics and the session of one update."""
    session = tiny_session(["prompts", "reward"], reward=reward)
    config = DAPOConfig(batch_size=8, group_size=4, minibatch_size=8, overlong_penalty=0.0, **settings)
    return next(train_dapo(config, Run(session))), session


@pytest.mark.parametrize("draws", [1, 2, 3])
def test_groups_without_spread_are_drawn_again_so_often_and_every_draw_is_charged(draws):
    metrics, session = dapo_update(alike, draws=draws)
    assert session.ledger.reward_queries == 8 * draws
    assert len(session.ledger.rows["prompts"]) == 2 * draws
    assert metrics["thrown_away"] == pytest.approx(1 - 1 / draws)
    _, once = dapo_update(alike, draws=1)
    sampling = [each.ledger.report()["flops_by_role_phase"]["policy/sample"] for each in (session, once)]
    assert sampling[0] > (draws - 0.5) * sampling[1]
    assert session.ledger.generated_tokens > (draws - 0.5) * once.ledger.generated_tokens


def test_a_batch_that_is_full_draws_no_more():
    numbers = iter(range(10_000))
    metrics, session = dapo_update(lambda samples: [float(next(numbers)) for _ in samples])
    assert session.ledger.reward_queries == 8
    assert metrics["thrown_away"] == metrics["zero_spread"] == 0.0


def test_only_the_places_that_are_left_are_drawn_again():
    calls = []

    def second_group_alike(samples):
        calls.append(len(samples))
        return [float(number) if number < 4 else 0.5 for number in range(len(samples))]

    metrics, _ = dapo_update(second_group_alike)
    assert calls == [8, 4]
    assert metrics["thrown_away"] == pytest.approx(1 / 3)
    assert metrics["zero_spread"] == pytest.approx(1 / 3)


def test_what_is_learnt_from_has_spread_and_the_log_probabilities_of_its_own_tokens(monkeypatch):
    """The rows of several draws are one batch, padded anew: each keeps what was sampled for it."""
    seen = []

    def watched(config, run, groups_of, loss_of):
        for update in run.updates():
            groups = groups_of(update)
            seen.append((groups, response_logprobs(run.policy, groups.rollout, config.temperature).detach()))
            yield {}

    def alike_if_short(samples):
        return [
            0.0 if len(sample.prompt[0]["content"]) < 3 else float(place % 4) for place, sample in enumerate(samples)
        ]

    monkeypatch.setattr("zoo_grpo.train.train_on_groups", watched)
    session = tiny_session(["prompts", "reward"], reward=alike_if_short)
    config = DAPOConfig(batch_size=16, group_size=4, minibatch_size=8, overlong_penalty=0.0)
    next(train_dapo(config, Run(session)))
    ((groups, logprobs),) = seen
    assert isinstance(groups, Groups)
    rollout = groups.rollout
    assert session.ledger.reward_queries > 16, "nothing was drawn again"
    assert len(rollout) == 16
    torch.testing.assert_close(logprobs[rollout.mask], rollout.logprobs[rollout.mask], atol=1e-5, rtol=1e-5)
    prompts = [sample.prompt[0]["content"] for sample in rollout.samples]
    assert all(len(set(prompts[place : place + 4])) == 1 for place in range(0, 16, 4))
    assert all(len(prompt) >= 3 for prompt in prompts)
    assert (groups.advantages.view(4, 4).std(1) > 0.5).all()


def test_a_response_of_the_full_length_loses_the_whole_overlong_penalty():
    # Bandits end with their second token: at a limit of 2 that is the last one, at 20 it is free.
    def score(response_tokens):
        config = DAPOConfig(batch_size=8, group_size=4, minibatch_size=8, overlong_penalty=3.0, draws=1)
        settings = {**BANDIT, "encoder": tiny_encoder(response_tokens)}
        return next(train_dapo(config, Run(tiny_session(["prompts", "reward"], policy=bandit(), **settings))))["score"]

    assert score(20) - score(2) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        (DrGRPOConfig, {"group_size": 1}, "group_size=1 must be 2 or more"),
        (GSPOConfig, {"batch_size": 60}, "batch_size=60 must be a multiple of group_size=8"),
        (DAPOConfig, {"draws": 0}, "draws=0 must be 1 or more"),
        (DAPOConfig, {"draws": 5}, "draws=5 must be from 1 to 4"),
        (DAPOConfig, {"overlong_penalty": -1.0}, "overlong_penalty=-1.0 must be 0 or more"),
        (DAPOConfig, {"overlong_share": 0.0}, "overlong_share=0.0 must be above 0"),
        (DAPOConfig, {"overlong_share": 1.5}, "overlong_share=1.5 must be above 0 and at most 1"),
        (DAPOConfig, {"missing_eos_penalty": -1.0}, "missing_eos_penalty=-1.0"),
        (CISPOConfig, {"weight_cap": 1.0}, "weight_cap=1.0 must be above 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(config, settings, message):
    with pytest.raises(ValueError, match=message):
        config(**settings)
