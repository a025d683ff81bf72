"""RAFT passes the suite, climbs a reward, and goes through the iterates of best-of-K."""

import math

import pytest
import torch
from zoo_raft.config import RAFTConfig
from zoo_raft.train import train

from zoo_core.run import Run
from zoo_core.testing.suite import AlgorithmSuite
from zoo_core.testing.tiny import tiny_encoder, tiny_session
from zoo_core.testing.toys import ARMS, BANDIT, arm_probabilities, bandit, trained
from zoo_core.testing.witness import same_weights, weights


class TestRAFT(AlgorithmSuite):
    name = "raft"
    settings = {"batch_size": 8, "samples_per_prompt": 4, "minibatch_size": 4}


class TestRAFTPlusPlus(AlgorithmSuite):
    name = "raft"
    settings = {"variant": "raft++", "batch_size": 4, "samples_per_prompt": 4, "kl_coefficient": 0.1, "epochs": 1}


@pytest.mark.parametrize("variant", ["raft", "raft-global", "raft++"])
def test_the_score_climbs_whatever_the_variant(variant):
    sizes = {"batch_size": 8, "samples_per_prompt": 8, "minibatch_size": 8}
    config = RAFTConfig(variant=variant, **sizes, learning_rate=1e-2, kl_coefficient=0.0)
    _, history = trained(train, 24, config, reward=lambda samples: [s.response.count("a") / 2 - 0.4 for s in samples])
    assert sum(metrics["score"] for metrics in history[-3:]) / 3 > history[0]["score"] + 0.4
    assert all(metrics["selected_score"] > metrics["score"] for metrics in history[:5])


def test_each_prompt_gives_one_response_unless_all_of_them_were_cut_off():
    config = RAFTConfig(batch_size=16, samples_per_prompt=2, minibatch_size=8, kl_coefficient=0.0)
    _, (metrics, *_) = trained(train, 1.05, config)
    assert 0.0 < metrics["selected"] < 0.5
    _, (metrics, *_) = trained(train, 1.05, config, bandit, **BANDIT)
    assert metrics["selected"] == 0.5


def test_a_stage_in_which_every_response_was_cut_off_changes_nothing():
    session = tiny_session(["prompts", "reward"], policy=bandit(), encoder=tiny_encoder(1), rows=BANDIT["rows"])
    start = weights(session.policy)
    metrics = next(train(RAFTConfig(batch_size=4, samples_per_prompt=2, kl_coefficient=0.0), Run(session)))
    assert (metrics["ended"], metrics["selected"], metrics["loss"]) == (0.0, 0.0, 0.0)
    assert same_weights(session.policy, start)


def test_there_is_a_reference_only_if_the_ranking_needs_one():
    roles = []
    for beta in (0.0, 0.1):
        session, _ = trained(train, 1.05, RAFTConfig(batch_size=4, kl_coefficient=beta))
        roles.append({name.partition("/")[0] for name in session.ledger.report()["flops_by_role_phase"]})
    assert roles == [{"policy"}, {"policy", "reference"}]


def test_where_divergence_is_dear_the_policy_stays_closer_to_its_start():
    def distance(beta):
        config = RAFTConfig(batch_size=8, learning_rate=1e-2, kl_coefficient=beta)
        session, _ = trained(train, 12, config, bandit, **BANDIT)
        return 0.5 * (arm_probabilities(session.policy) - arm_probabilities(bandit())).abs().sum().item()

    assert distance(10.0) < 0.5 * distance(0.0)


def test_in_a_bandit_a_long_stage_ends_at_best_of_k_of_its_start():
    # One stage: 1024 groups of K = 4, imitated until nothing is left to learn. With F sorted by reward, best of K has
    # the distribution F(y)ᴷ − F(y⁻)ᴷ.
    start = arm_probabilities(bandit())
    config = RAFTConfig(
        batch_size=1024,
        samples_per_prompt=4,
        minibatch_size=256,
        epochs=10,
        learning_rate=0.1,
        max_grad_norm=1e9,
        kl_coefficient=0.0,
    )
    session = tiny_session(["prompts", "reward"], policy=bandit(), **BANDIT)
    metrics = next(train(config, Run(session)))
    order = torch.tensor(list(ARMS.values())).argsort()
    share = start[order].cumsum(0) ** 4
    expected = torch.zeros(4).index_copy(0, order, share.diff(prepend=torch.zeros(1)))
    assert metrics["selected"] == 1 / 4
    assert 0.5 * (start - expected).abs().sum() > 0.3
    assert 0.5 * (arm_probabilities(session.policy) - expected).abs().sum() < 0.04


def test_stage_after_stage_a_bandit_comes_to_say_nothing_but_the_best():
    session, history = trained(
        train, 20, RAFTConfig(batch_size=8, learning_rate=1e-2, kl_coefficient=0.0), bandit, **BANDIT
    )
    assert history[0]["score"] < 0.7
    assert arm_probabilities(session.policy)[list(ARMS).index("c")] > 0.95


def test_imitation_is_at_temperature_1_whatever_the_responses_were_sampled_at():
    # The loss is minus log-probability per token: of the policy itself, not of the one that it samples from.
    config = RAFTConfig(
        batch_size=16, minibatch_size=128, samples_per_prompt=8, epochs=1, temperature=0.5, kl_coefficient=0.0
    )
    session, seen = tiny_session(["prompts", "reward"], policy=bandit(), **BANDIT), []
    start = dict(zip(ARMS, arm_probabilities(session.policy).tolist(), strict=True))
    run = Run(session)
    sample = run.sample
    run.sample = lambda *given: seen.append(sample(*given)) or seen[-1]
    metrics = next(train(config, run))
    best = [max((one.response for one in seen[0].samples[row : row + 8]), key=ARMS.get) for row in range(0, 128, 8)]
    # Two tokens, of which the second, EOS, is certain.
    assert metrics["loss"] == pytest.approx(-sum(math.log(start[arm]) for arm in best) / 32, rel=1e-4)


def test_the_first_ratio_of_raft_plus_plus_is_1_at_any_temperature():
    config = RAFTConfig(
        variant="raft++",
        batch_size=16,
        minibatch_size=128,
        samples_per_prompt=8,
        epochs=1,
        temperature=0.5,
        kl_coefficient=0.0,
    )
    _, (metrics, *_) = trained(
        train, 1.05, config, bandit, **{**BANDIT, "reward": lambda samples: [1.0] * len(samples)}
    )
    assert metrics["loss"] == pytest.approx(-1.0, abs=1e-4)


def test_one_sample_per_prompt_is_fine_tuning_on_own_samples():
    config = RAFTConfig(
        batch_size=16, samples_per_prompt=1, minibatch_size=16, epochs=1, learning_rate=1e-12, kl_coefficient=0.0
    )
    _, (metrics, *_) = trained(train, 1.05, config, bandit, **BANDIT)
    assert metrics["selected"] == 1.0
    assert metrics["selected_score"] == metrics["score"]
    # The loss is then an estimate of the entropy of the arms, halved: the second token, EOS, is certain.
    entropy = -(arm_probabilities(bandit()) * arm_probabilities(bandit()).log()).sum().item()
    assert metrics["loss"] == pytest.approx(entropy / 2, rel=0.3)
    assert metrics["loss"] < math.log(4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size=0 must be 1 or more"),
        ({"samples_per_prompt": 0}, "samples_per_prompt=0 must be 1 or more"),
        ({"minibatch_size": 0}, "minibatch_size=0 must be 1 or more"),
        ({"epochs": 0}, "epochs=0 must be 1 or more"),
        ({"temperature": 0.0}, "temperature=0.0 must be above 0"),
        ({"kl_coefficient": -0.1}, "kl_coefficient=-0.1 must be 0 or more"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RAFTConfig(**settings)
