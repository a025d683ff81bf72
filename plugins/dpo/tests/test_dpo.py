"""DPO passes the suite, separates pairs it has not seen, and finds the optimum of a problem solved by hand."""

import math
from itertools import combinations

import pytest
import torch
from zoo_dpo.config import DPOConfig
from zoo_dpo.train import train

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


def test_on_all_pairs_of_a_bradley_terry_world_it_ends_at_the_reference_tilted_by_the_reward():
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
    list(train(DPOConfig(batch_size=len(rows), learning_rate=1e-2, beta=beta), Run(session)))
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
