"""SimPO and CPO pass the suite and separate pairs that they have not seen."""

import pytest
import torch
from zoo_simpo.config import CPOConfig, SimPOConfig
from zoo_simpo.train import train, train_cpo

from zoo_core.functional import masked_row_mean
from zoo_core.rollout import response_logprobs
from zoo_core.rows import Preference
from zoo_core.run import Run
from zoo_core.testing.suite import AlgorithmSuite
from zoo_core.testing.tiny import tiny_session
from zoo_core.testing.toys import PROMPT


class TestSimPO(AlgorithmSuite):
    name = "simpo"
    settings = {"batch_size": 8}


class TestCPO(AlgorithmSuite):
    name = "cpo"
    settings = {"batch_size": 8}


def said(text):
    return [{"role": "assistant", "content": text}]


@pytest.mark.parametrize(("loop", "config"), [(train, SimPOConfig), (train_cpo, CPOConfig)])
def test_pairs_it_has_not_seen_come_apart_without_a_reference(loop, config):
    # Chosen answers are written in a and b, rejected ones in c and d; half of the pairs is held out.
    texts = [(f"{x}{y}", f"{z}{w}") for x in "ab" for y in "ab" for z in "cd" for w in "cd"]
    rows = [Preference(PROMPT, said(good), said(bad), f"pair {n}") for n, (good, bad) in enumerate(texts)]
    session = tiny_session(["preferences"], rows={"preferences": rows[::2]}, budget=3e8)
    history = list(loop(config(batch_size=8, learning_rate=1e-2), Run(session)))
    assert history[-1]["loss"] < history[0]["loss"]
    assert set(session.ledger.report()["flops_by_role_phase"]) == {"policy/train"}
    held_out = [(PROMPT, getattr(row, which)) for which in ("chosen", "rejected") for row in rows[1::2]]
    answers = session.encoder.responses(held_out)
    with torch.no_grad():
        chosen, rejected = masked_row_mean(response_logprobs(session.policy, answers), answers.mask).chunk(2)
    assert (chosen > rejected + 0.5).all()


def test_imitation_keeps_chosen_answers_likely_in_cpo():
    rows = {"preferences": [Preference(PROMPT, said("ab"), said("cd"), f"pair {n}") for n in range(4)]}
    ends = []
    for weight in (0.0, 1.0):
        session = tiny_session(["preferences"], rows=rows, budget=1e8)
        config = CPOConfig(batch_size=4, learning_rate=1e-2, imitation_coefficient=weight)
        ends.append(list(train_cpo(config, Run(session)))[-1]["chosen_logprob"])
    assert ends[1] > ends[0]
    assert ends[1] > -0.3  # nats per token
