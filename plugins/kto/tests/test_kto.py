"""KTO passes the suite, mixes no answer with its own prompt, and separates answers it has not seen."""

import pytest
import torch
from zoo_kto.config import KTOConfig
from zoo_kto.train import mismatched, train

from zoo_core.functional import masked_sum
from zoo_core.rollout import response_logprobs
from zoo_core.rows import Preference
from zoo_core.run import Run
from zoo_core.testing.suite import AlgorithmSuite
from zoo_core.testing.tiny import tiny_session
from zoo_core.testing.toys import PROMPT


class TestKTO(AlgorithmSuite):
    name = "kto"
    settings = {"batch_size": 8}


def said(text):
    return [{"role": "assistant", "content": text}]


@pytest.mark.parametrize("pairs", [2, 3, 8])
def test_no_prompt_is_mixed_with_an_answer_of_its_own_pair_and_every_answer_is_used_once(pairs):
    run = Run(tiny_session(["preferences"]))
    batch = run.preferences.batch(0, pairs)
    mixed = mismatched(batch, run.tokenizer.pad_token_id)
    assert [prompt for prompt, _ in mixed.rows] == [prompt for prompt, _ in batch.rows]
    assert sorted(answer for _, answer in mixed.rows) == sorted(answer for _, answer in batch.rows)
    owner = {number: number % pairs for number in range(2 * pairs)}
    for number, (_, answer) in enumerate(mixed.rows):
        taken = [row for row, (_, response) in enumerate(batch.rows) if response == answer]
        assert any(owner[row] != owner[number] for row in taken)


def test_the_first_reference_point_is_0_and_every_response_costs_a_half():
    first = next(train(KTOConfig(batch_size=4), Run(tiny_session(["preferences"]))))
    assert first["reference_point"] == 0.0
    assert first["loss"] == pytest.approx(0.5, abs=1e-6)


def test_the_passes_that_find_the_reference_point_are_charged():
    session = tiny_session(["preferences"], rows={"preferences": pairs()[::5]})
    steps, spent = train(KTOConfig(batch_size=4), Run(session)), []
    for _ in range(3):
        next(steps)
        spent.append(dict(session.ledger.meter.cells))
    # The reference reads the four pairs once, and as many mixed rows in every update.
    first, second, third = (cells["reference", "score"] for cells in spent)
    assert first == pytest.approx(2 * (second - first), rel=0.05)
    assert third - second == pytest.approx(second - first, rel=0.05)
    assert spent[0]["policy", "score"] == pytest.approx(first / 2, rel=0.05)


def pairs():
    texts = [(f"{x}{y}", f"{z}{w}") for x in "ab" for y in "ab" for z in "cd" for w in "cd"]
    return [Preference(PROMPT, said(good), said(bad), f"pair {n}") for n, (good, bad) in enumerate(texts)]


def test_answers_it_has_not_seen_come_apart():
    # Good answers are written in a and b, bad ones in c and d; half of the pairs is held out.
    rows = pairs()
    session = tiny_session(["preferences"], rows={"preferences": rows[::2]}, budget=6e8)
    run = Run(session)
    reference = run.reference()
    history = list(train(KTOConfig(batch_size=8, learning_rate=1e-2, beta=0.5), run))
    assert history[-1]["loss"] < 0.25
    held_out = [(PROMPT, getattr(row, which)) for which in ("chosen", "rejected") for row in rows[1::2]]
    answers = session.encoder.responses(held_out)
    with torch.no_grad():
        log_ratios = response_logprobs(run.policy, answers) - response_logprobs(reference, answers)
    chosen, rejected = masked_sum(log_ratios, answers.mask).chunk(2)
    assert (chosen > rejected).all()
