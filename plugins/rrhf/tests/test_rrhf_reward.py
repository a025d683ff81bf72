"""A policy is a reward, on text, wherever a reward reference stands."""

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from zoo_rrhf.config import RRHFConfig
from zoo_rrhf.likelihood import Likelihood
from zoo_rrhf.train import train

from zoo_core.errors import ModelError, SpecError
from zoo_core.models.copies import scorer_from
from zoo_core.models.directories import files_sha256
from zoo_core.registry.references import load_reward
from zoo_core.reward import Calibration, Sample
from zoo_core.run import Run
from zoo_core.testing.tiny import LETTERS, tiny_policy, tiny_session, tiny_tokenizer

SAMPLES = [
    Sample("ab", "cd", True),
    Sample("ab", "cd", False),
    Sample("", "hello", True),
    Sample([{"role": "user", "content": "why?"}], "x", True),
    Sample([{"role": role, "content": role[0]} for role in ("user", "assistant", "user")], "", True),
    Sample("c" * 30, "aaaa bbbb", False),
]


def other_tokenizer():
    """Return a tokenizer with other numbers for the letters, no BOS, and a template of its own."""
    words = ["<end>", "<fill>", "<huh>", *reversed(LETTERS)]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<huh>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<fill>",
        eos_token="<end>",
        unk_token="<huh>",
        chat_template=(
            "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ message['content'] + eos_token }}"
            "{% else %}{{ message['content'] + '\n' }}{% endif %}{% endfor %}"
        ),
    )


@pytest.fixture(scope="module", params=["same tokenizer", "another one"])
def folder(request, tmp_path_factory):
    """Return the folder of a finished run."""
    folder = tmp_path_factory.mktemp("run")
    tiny_policy(seed=3).save_pretrained(folder / "final")
    (tiny_tokenizer() if request.param == "same tokenizer" else other_tokenizer()).save_pretrained(folder / "final")
    return folder


def by_hand(reward, sample):
    """The mean of log π of each response token, one sample at a time and without padding."""
    tokenizer = reward.tokenizer
    if isinstance(sample.prompt, str):
        prompt = tokenizer(sample.prompt)["input_ids"] or [tokenizer.eos_token_id]
    else:
        text = tokenizer.apply_chat_template(sample.prompt, tokenize=False, add_generation_prompt=True)
        prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
    response = tokenizer(sample.response, add_special_tokens=False)["input_ids"]
    response += [tokenizer.eos_token_id] * sample.ended
    ids = torch.tensor([prompt + response])
    with torch.no_grad():
        logprobs = reward.model(ids).logits[0, :-1].log_softmax(-1)
    return logprobs.gather(1, ids[0, 1:, None])[-len(response) :].mean().item()


def test_the_score_is_the_mean_log_probability_of_the_response_with_its_end_if_it_ended(folder):
    reward = load_reward(f"rrhf:{folder}")
    scores = reward(SAMPLES)
    assert scores == pytest.approx([by_hand(reward, sample) for sample in SAMPLES], abs=1e-5)
    assert len({round(score, 4) for score in scores}) == len(SAMPLES)
    assert max(scores) < 0.0


def test_a_score_does_not_depend_on_the_batch_it_is_asked_in(folder):
    reward = load_reward(f"rrhf:{folder}")
    together = reward(SAMPLES)
    assert [reward([sample])[0] for sample in SAMPLES] == pytest.approx(together, abs=1e-5)
    reward.batch_size = 2
    assert reward(SAMPLES) == pytest.approx(together, abs=1e-5)
    assert reward(SAMPLES[::-1]) == pytest.approx(together[::-1], abs=1e-5)
    assert reward([]) == []


def test_of_what_is_too_long_the_end_of_the_prompt_and_the_beginning_of_the_response_are_kept(folder):
    reward = load_reward(f"rrhf:{folder}")
    assert reward.longest == 64
    batch = reward.encode([Sample("b" * 50 + "c" * 40, "a" * 30, False), Sample("b" * 90, "a" * 90, True)])
    words = [reward.tokenizer.convert_ids_to_tokens([*prompt, *answer]) for prompt, answer in batch.rows]
    assert words[0] == ["c"] * 34 + ["a"] * 30
    assert words[1] == ["b"] + ["a"] * 63
    assert batch.mask.sum(1).tolist() == [30, 63]


def test_a_model_s_own_folder_serves_as_the_run_s_does(folder):
    one, other = load_reward(f"rrhf:{folder}"), load_reward(f"rrhf:{folder / 'final'}")
    assert other(SAMPLES) == one(SAMPLES)
    assert one.identity == other.identity == files_sha256(folder / "final")


def test_a_run_can_learn_from_it_and_pays_for_it(folder):
    session = tiny_session(["preferences", "reward"], reward=load_reward(f"rrhf:{folder}"))
    session.calibration = Calibration(-3.5, 0.5)
    training = train(RRHFConfig(batch_size=8), Run(session))
    first = next(training)
    assert first["score"] != first["best_score"]
    assert session.ledger.meter.cells["reward", "score"] > 0
    assert session.ledger.report()["audit_ratio"] in (None, pytest.approx(1.0, abs=0.02))
    assert not any(parameter.requires_grad for parameter in session.reward.model.parameters())


def test_what_is_no_policy_is_refused(tmp_path):
    with pytest.raises(SpecError, match=r"'rrhf:nothing' needs a policy: .*neither a local directory"):
        load_reward("rrhf:nothing")
    with pytest.raises(SpecError, match=r"no config\.json"):
        load_reward(f"rrhf:{tmp_path}")
    scorer_from(tiny_policy(), seed=0).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(SpecError, match=r"holds a scorer \(LlamaForSequenceClassification\)"):
        load_reward(f"rrhf:{tmp_path}")


def test_other_references_are_left_to_others():
    assert load_reward("zoo_core.testing.tiny:share_of_a").__name__ == "share_of_a"
    with pytest.raises(ModelError, match="neither a local directory"):
        load_reward("nothing")


def test_a_policy_that_learnt_one_answer_scores_it_highest():
    policy = tiny_policy()
    tokenizer = tiny_tokenizer()
    batch = torch.tensor([tokenizer("ab")["input_ids"] + tokenizer("cd<eos>", add_special_tokens=False)["input_ids"]])
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-2)
    for _ in range(30):
        policy(batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    reward = Likelihood(policy, tokenizer)
    right, wrong, cut = reward([Sample("ab", "cd", True), Sample("ab", "dc", True), Sample("ab", "c", True)])
    assert right > -0.5
    assert right > max(wrong, cut) + 1.0
