"""DPO and its relatives pass the suite; DPO separates pairs it has not seen and finds an optimum solved by hand."""

import math
from itertools import combinations

import pytest
import torch
from zoo_dpo.config import DPOConfig
from zoo_dpo.relatives import (
    ConservativeDPOConfig,
    DPONLLConfig,
    DPONormConfig,
    DPOPositiveConfig,
    IPOConfig,
    RobustDPOConfig,
)
from zoo_dpo.train import (
    train,
    train_conservative,
    train_ipo,
    train_nll,
    train_norm,
    train_positive,
    train_robust,
)

from zoo_core.functional import masked_sum
from zoo_core.rollout import response_logprobs
from zoo_core.rows import Preference
from zoo_core.run import Run
from zoo_core.testing.suite import AlgorithmSuite
from zoo_core.testing.tiny import tiny_policy, tiny_session
from zoo_core.testing.toys import ARMS, PROMPT


class TestDPO(AlgorithmSuite):
    name = "dpo"
    settings = {"batch_size": 8}


class TestIPO(AlgorithmSuite):
    name = "ipo"
    settings = {"batch_size": 8}


class TestConservativeDPO(AlgorithmSuite):
    name = "cdpo"
    settings = {"batch_size": 8}


class TestRobustDPO(AlgorithmSuite):
    name = "robust-dpo"
    settings = {"batch_size": 8}


class TestDPONLL(AlgorithmSuite):
    name = "dpo-nll"
    settings = {"batch_size": 8}


class TestDPONorm(AlgorithmSuite):
    name = "dpo-norm"
    settings = {"batch_size": 8}


class TestDPOPositive(AlgorithmSuite):
    name = "dpop"
    settings = {"batch_size": 8}


def said(text):
    return [{"role": "assistant", "content": text}]


def probabilities(session):
    """Return the probability of each of the four answers among them, their ends included."""
    answers = session.encoder.responses([(PROMPT, said(text)) for text in ARMS])
    with torch.no_grad():
        return masked_sum(response_logprobs(session.policy, answers), answers.mask).softmax(0)


def test_pairs_it_has_not_seen_come_apart_and_the_first_loss_is_ln_2():
    # Chosen answers are written in a and b, rejected ones in c and d; half of the pairs is held out.
    texts = [(f"{x}{y}", f"{z}{w}") for x in "ab" for y in "ab" for z in "cd" for w in "cd"]
    rows = [Preference(PROMPT, said(good), said(bad), f"pair {n}") for n, (good, bad) in enumerate(texts)]
    session = tiny_session(["preferences"], rows={"preferences": rows[::2]}, budget=1e9)
    run = Run(session)
    reference = run.reference()
    history = list(train(DPOConfig(batch_size=8, learning_rate=1e-2), run))
    assert history[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert history[-1]["loss"] < 0.2
    held_out = [(PROMPT, getattr(row, which)) for which in ("chosen", "rejected") for row in rows[1::2]]
    answers = session.encoder.responses(held_out)
    with torch.no_grad():
        log_ratios = response_logprobs(run.policy, answers) - response_logprobs(reference, answers)
    chosen, rejected = masked_sum(log_ratios, answers.mask).chunk(2)
    assert (chosen > rejected).all()
    assert history[-1]["chosen_reward"] > history[-1]["rejected_reward"]


@pytest.mark.parametrize(
    ("loop", "config_of", "tokens"), [(train, DPOConfig, 1), (train_norm, DPONormConfig, 2)], ids=["dpo", "dpo-norm"]
)
def test_on_all_pairs_of_a_bradley_terry_world_it_ends_at_the_reference_tilted_by_the_reward(loop, config_of, tokens):
    # 20 judgements of every pair of arms, σ(r_i − r_j) of them for i: the loss is its own expectation, and its minimum
    # is π ∝ π_ref exp(r/β) (eq. 4). With rounding to a twentieth the tilt is off by less than 0.01 in total variation.
    beta, rows = 0.5, []
    for one, other in combinations(ARMS, 2):
        wins = round(20 / (1 + math.exp(ARMS[other] - ARMS[one])))
        for number in range(20):
            good, bad = (one, other) if number < wins else (other, one)
            rows.append(Preference(PROMPT, said(good), said(bad), f"{one}{other} {number}"))
    session = tiny_session(
        ["preferences"], rows={"preferences": rows}, policy=tiny_policy(hidden_size=16), budget=4.8e9
    )
    start = probabilities(session)
    # Per token of answers that all have two, β is twice as large.
    list(loop(config_of(batch_size=len(rows), learning_rate=1e-2, beta=tokens * beta), Run(session)))
    optimum = start * torch.tensor([math.exp(reward / beta) for reward in ARMS.values()])
    optimum /= optimum.sum()
    assert 0.5 * (start - optimum).abs().sum() > 0.2
    assert 0.5 * (probabilities(session) - optimum).abs().sum() < 0.05


def test_the_reference_reads_each_response_once():
    rows = [Preference(PROMPT, said(good), said("dd"), f"pair {good}") for good in ("aa", "bb", "cc", "ab")]
    session = tiny_session(["preferences"], rows={"preferences": rows}, budget=1e9)
    steps, spent = train(DPOConfig(batch_size=2), Run(session)), []
    for _ in range(4):
        next(steps)
        spent.append(session.ledger.meter.cells["reference", "score"])
    assert spent[0] < spent[1] == spent[2] == spent[3]


# Its relatives


def one_pair(good="ab", bad="cd", copies=4, **settings):
    """Return a session with copies of one pair: labels without doubt."""
    rows = [Preference(PROMPT, said(good), said(bad), f"pair {number}") for number in range(copies)]
    return tiny_session(["preferences"], rows={"preferences": rows}, **settings)


WITHOUT = [
    (train_conservative, ConservativeDPOConfig(batch_size=8, label_noise=0.0)),
    (train_robust, RobustDPOConfig(batch_size=8, label_noise=0.0)),
    (train_nll, DPONLLConfig(batch_size=8, imitation_coefficient=0.0)),
    (train_positive, DPOPositiveConfig(batch_size=8, beta=0.1, penalty_coefficient=0.0)),
]


@pytest.mark.parametrize(("loop", "config"), WITHOUT, ids=[loop.__name__ for loop, _ in WITHOUT])
def test_without_what_it_adds_it_trains_as_dpo_does_to_the_bit(loop, config):
    session, plain = (tiny_session(["preferences"], budget=1e8) for _ in range(2))
    history = list(loop(config, Run(session)))
    assert history == list(train(DPOConfig(batch_size=8), Run(plain)))
    theirs = plain.policy.state_dict()
    assert all(torch.equal(weight, theirs[name]) for name, weight in session.policy.state_dict().items())


def test_ipo_ends_with_every_pair_at_its_target_per_token():
    # "ab" and its end are 3 tokens, "c" and its end 2: chosen/3 − rejected/2 = 1/(2·.5) = 1. Metrics are τ h.
    config = IPOConfig(batch_size=4, learning_rate=3e-3, tau=0.5)
    history = list(train_ipo(config, Run(one_pair("ab", "c", budget=3e8))))
    assert history[0]["loss"] == pytest.approx(1.0, abs=1e-6)
    last = history[-1]
    assert (last["chosen_reward"] / 3 - last["rejected_reward"] / 2) / 0.5 == pytest.approx(1.0, abs=0.02)


def test_conservative_dpo_ends_where_the_margin_says_what_it_believes_of_the_labels():
    # β d = log(.8/.2) = 1.386294, and the loss is the entropy of (.8, .2) there
    config = ConservativeDPOConfig(batch_size=4, learning_rate=3e-3, beta=0.5, label_noise=0.2)
    last = list(train_conservative(config, Run(one_pair(budget=3e8))))[-1]
    assert last["chosen_reward"] - last["rejected_reward"] == pytest.approx(math.log(4), abs=0.02)
    assert last["loss"] == pytest.approx(-0.8 * math.log(0.8) - 0.2 * math.log(0.2), abs=1e-3)


def test_robust_dpo_has_no_floor_on_labels_without_doubt():
    config = {"batch_size": 4, "learning_rate": 3e-3, "beta": 0.5}
    robust = list(train_robust(RobustDPOConfig(**config, label_noise=0.2), Run(one_pair(budget=3e8))))
    plain = list(train(DPOConfig(**config), Run(one_pair(budget=3e8))))
    assert robust[-1]["loss"] < -1.0 < 0.0 < plain[-1]["loss"]
    margins = [last["chosen_reward"] - last["rejected_reward"] for last in (robust[-1], plain[-1])]
    assert margins[0] > margins[1]


def test_dpo_with_imitation_and_hardly_any_preference_ends_at_the_shares_of_the_chosen_answers():
    wins = {"aa": 1, "bb": 2, "cc": 5}
    rows = [
        Preference(PROMPT, said(good), said("dd"), f"{good} {n}") for good, count in wins.items() for n in range(count)
    ]
    session = tiny_session(["preferences"], rows={"preferences": rows}, policy=tiny_policy(hidden_size=16), budget=1e9)
    list(train_nll(DPONLLConfig(batch_size=8, learning_rate=1e-2, beta=1e-6), Run(session)))
    answers = session.encoder.responses([(PROMPT, said(text)) for text in wins])
    with torch.no_grad():
        found = masked_sum(response_logprobs(session.policy, answers), answers.mask).exp()
    torch.testing.assert_close(found, torch.tensor([1 / 8, 2 / 8, 5 / 8]), atol=0.03, rtol=0)


def test_dpo_positive_and_imitation_hold_up_a_chosen_answer_that_dpo_makes_less_likely():
    # "a" is chosen once and rejected seven times.
    rows = [Preference(PROMPT, said("a"), said("b"), "pair 0")]
    rows += [Preference(PROMPT, said("c"), said("a"), f"pair {number}") for number in range(1, 8)]
    settings = {"batch_size": 8, "learning_rate": 3e-3, "beta": 0.3}

    def gained(loop, config):
        session = tiny_session(["preferences"], rows={"preferences": rows}, budget=3e8)
        answer = session.encoder.responses([(PROMPT, said("a"))])
        with torch.no_grad():
            before = response_logprobs(session.policy, answer).sum()
        list(loop(config, Run(session)))
        with torch.no_grad():
            return (response_logprobs(session.policy, answer).sum() - before).item()

    plain = gained(train, DPOConfig(**settings))
    assert plain < -1.0
    assert gained(train_positive, DPOPositiveConfig(**settings)) > plain + 0.5
    assert gained(train_nll, DPONLLConfig(**settings)) > plain + 0.5
