"""ORPO passes the suite, is SFT without its second term, and separates pairs that it has not seen."""

import pytest
import torch
from zoo_orpo.config import ORPOConfig
from zoo_orpo.train import train
from zoo_sft.config import SFTConfig
from zoo_sft.train import train as fine_tune

from zoo_core.functional import masked_mean
from zoo_core.rollout import response_logprobs
from zoo_core.rows import Demonstration, Preference
from zoo_core.run import Run
from zoo_core.testing.suite import AlgorithmSuite
from zoo_core.testing.tiny import tiny_rows, tiny_session
from zoo_core.testing.toys import PROMPT


class TestORPO(AlgorithmSuite):
    name = "orpo"
    settings = {"batch_size": 8}


def said(text):
    return [{"role": "assistant", "content": text}]


def test_without_the_odds_ratio_it_makes_the_first_steps_of_sft_on_the_chosen_answers():
    rows = tiny_rows(["preferences"], count=8)["preferences"]
    answers = [Demonstration(row.prompt, row.chosen, row.where) for row in rows]
    pairs = tiny_session(["preferences"], rows={"preferences": rows})
    chosen = tiny_session(["demonstrations"], rows={"demonstrations": answers})
    config = {"batch_size": 8, "learning_rate": 1e-3}
    mine, theirs = (
        train(ORPOConfig(**config, odds_ratio_coefficient=0.0), Run(pairs)),
        fine_tune(SFTConfig(**config), Run(chosen)),
    )
    for _ in range(3):
        assert next(mine)["loss"] == pytest.approx(next(theirs)["loss"], rel=1e-5)


def test_the_loss_is_imitation_and_a_share_of_the_odds_ratio():
    config = ORPOConfig(batch_size=8, odds_ratio_coefficient=0.7)
    first = next(train(config, Run(tiny_session(["preferences"]))))
    assert first["odds_ratio_loss"] > 0.1
    assert first["loss"] == pytest.approx(first["imitation_loss"] + 0.7 * first["odds_ratio_loss"], rel=1e-6)


def test_pairs_it_has_not_seen_come_apart_without_a_reference():
    # Chosen answers are written in a and b, rejected ones in c and d; half of the pairs is held out.
    texts = [(f"{x}{y}", f"{z}{w}") for x in "ab" for y in "ab" for z in "cd" for w in "cd"]
    rows = [Preference(PROMPT, said(good), said(bad), f"pair {n}") for n, (good, bad) in enumerate(texts)]
    session = tiny_session(["preferences"], rows={"preferences": rows[::2]}, budget=3e8)
    history = list(train(ORPOConfig(batch_size=8, learning_rate=1e-2), Run(session)))
    assert history[-1]["loss"] < history[0]["loss"]
    assert set(session.ledger.report()["flops_by_role_phase"]) == {"policy/train"}
    means = []
    for which in ("chosen", "rejected"):
        answers = session.encoder.responses([(PROMPT, getattr(row, which)) for row in rows[1::2]])
        with torch.no_grad():
            means.append(masked_mean(response_logprobs(session.policy, answers), answers.mask))
    assert means[0] > means[1] + 0.5
