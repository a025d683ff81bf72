"""GKD passes the suite, becomes its teacher, and reads what it says it reads."""

import atexit
import tempfile
from functools import cache
from types import MappingProxyType

import pytest
import torch
from torch.optim import AdamW
from zoo_gkd.config import GKDConfig
from zoo_gkd.loss import divergence
from zoo_gkd.train import divergences, train

from zoo_core.errors import ModelError, PluginError
from zoo_core.models.teacher import compare_next_tokens
from zoo_core.rollout import response_logits, response_logprobs
from zoo_core.run import Run
from zoo_core.testing.families import model_of
from zoo_core.testing.suite import AlgorithmSuite
from zoo_core.testing.tiny import tiny_folder, tiny_policy, tiny_rows, tiny_session, tiny_tokenizer

HALF = {"batch_size": 8, "on_policy_share": 0.5}


@cache
def teacher() -> str:
    """Return the folder of a model that imitates the demonstrations of tiny.py; it goes with the process."""
    folder = tempfile.TemporaryDirectory(prefix="teacher-")
    atexit.register(folder.cleanup)
    session = tiny_session(["demonstrations"])
    rows = tiny_rows()["demonstrations"]
    answers = session.encoder.responses([(row.prompt, row.completion) for row in rows])
    optimizer = AdamW(session.policy.parameters(), lr=3e-2)
    for _ in range(30):
        optimizer.zero_grad()
        (-response_logprobs(session.policy, answers).sum() / answers.mask.sum()).backward()
        optimizer.step()
    session.policy.save_pretrained(folder.name)
    tiny_tokenizer().save_pretrained(folder.name)
    return folder.name


class TestGKD(AlgorithmSuite):
    name = "gkd"
    settings = HALF

    def training(self, session, run=None, others=MappingProxyType({})):
        return super().training(session, run, {"teacher": teacher(), **others})


@pytest.mark.parametrize(("share", "expected"), [(0.0, {0.0}), (1.0, {1.0}), (0.5, {0.0, 1.0})])
def test_responses_are_the_policys_own_in_the_share_that_was_asked_for(share, expected):
    session = tiny_session(["demonstrations", "prompts"])
    steps = train(GKDConfig(teacher=teacher(), batch_size=4, on_policy_share=share), Run(session))
    assert {next(steps)["on_policy"] for _ in range(12)} == expected
    assert (session.ledger.generated_tokens > 0) == (share > 0)
    assert ("demonstrations" in session.ledger.rows) == (share < 1)


def test_a_policy_that_is_its_teacher_has_nothing_to_learn():
    session = tiny_session(["demonstrations", "prompts"])
    steps = train(GKDConfig(teacher=str(tiny_folder()), batch_size=4), Run(session))
    first = next(steps)
    assert first["loss"] == pytest.approx(0.0, abs=1e-6)
    assert first["gradient_norm"] == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_on_its_own_responses_it_comes_close_to_its_teacher(beta):
    session = tiny_session(["demonstrations", "prompts"])
    settings = {"teacher": teacher(), "batch_size": 24, "on_policy_share": 1.0, "temperature": 1.0, "beta": beta}
    steps = train(GKDConfig(**settings, learning_rate=3e-2), Run(session))
    losses = [next(steps)["loss"] for _ in range(80)]
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_what_is_compared_is_the_distribution_before_each_response_token(family):
    policy, other = model_of(family), model_of(family)
    torch.manual_seed(1)
    for weight in other.parameters():
        weight.data += 0.05 * torch.randn_like(weight)
    encoder = tiny_session().encoder
    batch = encoder.responses([("ab", "abc"), ("a", "b"), ("abcd", "ca")])
    found = divergences(policy, other, batch, 1.0)
    mine, theirs = (response_logits(model, batch).float().log_softmax(-1) for model in (policy, other))
    torch.testing.assert_close(found, divergence(mine, theirs).masked_fill(~batch.mask, 0.0), rtol=1e-4, atol=1e-5)


def test_no_gradient_reaches_the_teacher_and_its_passes_are_charged():
    session = tiny_session(["demonstrations", "prompts"])
    steps = train(GKDConfig(teacher=teacher(), batch_size=4, on_policy_share=0.0), Run(session))
    next(steps)
    cells = session.ledger.meter.cells
    assert cells["teacher", "score"] == pytest.approx(cells["policy", "train"] / 3, rel=0.1)  # forward is a third
    assert ("teacher", "train") not in cells


def test_rows_that_round_a_vocabulary_up_are_left_out():
    policy, larger = tiny_policy(), tiny_policy()
    larger.resize_token_embeddings(policy.config.vocab_size + 8)
    batch = tiny_session().encoder.responses([("ab", "abc"), ("a", "b")])
    found = compare_next_tokens(lambda mine, theirs: divergence(mine, theirs), policy, larger, batch)
    torch.testing.assert_close(found, torch.zeros_like(found), atol=1e-5, rtol=0)


def test_a_teacher_must_be_named_be_there_and_have_the_policys_tokens(tmp_path):
    def first(ref):
        return next(train(GKDConfig(teacher=ref, batch_size=4), Run(tiny_session(["demonstrations", "prompts"]))))

    with pytest.raises(PluginError, match=r"gkd learns from a teacher.*--set gkd\.teacher=PATH"):
        first("")
    with pytest.raises(ModelError, match="neither a local directory"):
        first("nowhere at all")
    tiny_policy().save_pretrained(tmp_path)
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["another"])
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"the vocabulary of this teacher has .* tokens and is another"):
        first(str(tmp_path))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size=0 must be 1 or more"),
        ({"beta": 1.5}, "beta=1.5 must be between 0 and 1"),
        ({"on_policy_share": -0.1}, "on_policy_share=-0.1 must be between 0 and 1"),
        ({"temperature": 0.0}, "temperature=0.0 must be above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        GKDConfig(**settings)
