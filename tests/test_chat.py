"""The end of a turn is one notion, and the text decides whether a template is sound, not how tokens are joined."""

import json

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from zoo_core.compute.sampler import response_mask, roll_out, sample_cached
from zoo_core.datasets.chat import Chat, named_ends
from zoo_core.datasets.encoding import Encoder
from zoo_core.errors import DataError
from zoo_core.models.loading import save_model
from zoo_core.models.scorer import Scorer
from zoo_core.reward import Sample
from zoo_core.run import Run
from zoo_core.session.session import Session
from zoo_core.testing.tiny import tiny_policy

PAD, TEXT_END, TURN, TURN_END = range(4)
SPECIAL = ["<pad>", "<text end>", "<turn>", "<turn end>"]
CHATML = (
    "{% for m in messages %}<turn>{{ m['role'] }}\n{{ m['content'] }}<turn end>\n{% endfor %}"
    "{% if add_generation_prompt %}<turn>assistant\n{% endif %}"
)
WITHOUT_END = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}" + (
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
USER = [{"role": "user", "content": "hi"}]


def said(text):
    return [{"role": "assistant", "content": text}]


def words(template=CHATML, eos="<text end>"):
    """Return a tokenizer that joins two newlines to one token, as most do."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    settings = {"vocab_size": 263, "special_tokens": SPECIAL, "initial_alphabet": alphabet, "show_progress": False}
    bpe.train_from_iterator(["\n\n"] * 20, trainers.BpeTrainer(**settings))
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<pad>",
        eos_token=eos,
        extra_special_tokens=SPECIAL[1:],
        chat_template=template,
    )


def encoder(template=CHATML, named=(), eos="<text end>", response_tokens=16):
    return Encoder(words(template, eos), 64, response_tokens, torch.device("cpu"), named)


def test_a_turn_ends_with_what_the_template_closes_it_with_and_with_eos_and_with_what_the_generation_config_names():
    assert encoder().ends == {TEXT_END, TURN_END}
    assert encoder(named=[TURN]).ends == {TEXT_END, TURN, TURN_END}
    assert encoder(WITHOUT_END).ends == {TEXT_END}
    assert encoder(template=None).ends == {TEXT_END}


def test_the_ends_that_a_model_names_are_read_from_its_directory(tmp_path):
    assert named_ends(tmp_path) == ()
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": 1}))
    assert named_ends(tmp_path) == (1,)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 3]}))
    assert named_ends(tmp_path) == (1, 3)


@pytest.mark.parametrize("text", ["ab", "ab<turn end>", "ab<turn end>c", ""])
def test_an_answer_in_a_conversation_is_closed_as_the_template_closes_it_once(text):
    expected = [*words()("ab" if text else "")["input_ids"], TURN_END]
    assert encoder().response(USER, said(text)) == expected
    assert encoder().response(USER, text) == expected


def test_an_answer_in_plain_text_ends_with_eos():
    assert encoder().response("hi", "ab")[-1] == TEXT_END


def test_without_a_special_token_at_a_turns_end_eos_closes_the_bare_answer():
    assert encoder(WITHOUT_END).response(USER, said("ab")) == [*words()("ab")["input_ids"], TEXT_END]


@pytest.mark.parametrize("text", ["\nab", "\n\n\nab", " ab", "ab\n", "\n"])
def test_an_answer_that_begins_or_ends_with_blanks_is_learnt_as_it_is_sampled(text):
    ours = encoder()
    assert ours.response(USER, said(text)) == [*words()(text)["input_ids"], TURN_END]
    assert ours.decode(ours.response(USER, said(text))) == text
    prompt, answer = ours.prompt(USER), ours.response(USER, said(text))
    assert words().decode([*prompt, *answer]) == f"<turn>user\nhi<turn end>\n<turn>assistant\n{text}<turn end>"


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("text", ["ab", "\nab", "ab\n"])
@pytest.mark.parametrize("template", [CHATML, WITHOUT_END])
def test_a_scorer_reads_the_tokens_that_a_policy_of_the_same_words_learns_from(template, text, ended):
    ours = encoder(template)
    scorer = Scorer(tiny_policy(max_position_embeddings=64), words(template))
    expected = [*ours.prompt(USER), *ours.response(USER, said(text), ended=ended)]
    assert scorer.encode(Sample(USER, text, ended)) == expected


def test_the_sampler_stops_at_every_end_and_the_text_holds_none_of_them():
    policy = tiny_policy(vocab_size=263, eos_token_id=TEXT_END)
    ours, generator = encoder(named=[TURN]), torch.Generator().manual_seed(0)
    ends = torch.tensor(sorted(ours.ends))
    # All but a few tokens are out of reach, so that every kind of end is met.
    reach = torch.full((263,), -torch.inf)
    reach[[*ends.tolist(), 70, 71, 72, 73]] = 0.0
    policy.lm_head.register_forward_hook(lambda _, __, logits: logits * 0 + reach)
    rollout = roll_out(sample_cached, policy, ours.prompts([USER] * 64), ours, 1.0, generator)
    tokens = rollout.responses
    assert set(tokens[torch.isin(tokens, ends)].tolist()) == ours.ends
    assert torch.equal(rollout.mask, response_mask(tokens, ours.ends))
    assert torch.isin(tokens, ends).sum(1).tolist() == rollout.ended.long().tolist()
    assert all("<" not in sample.response and len(sample.response) < 16 for sample in rollout.samples if sample.ended)


def test_what_the_policy_itself_names_ends_a_sample_even_if_the_caller_knows_eos_alone():
    policy = tiny_policy(vocab_size=263, eos_token_id=[TEXT_END, TURN_END])
    forced = torch.full((263,), -torch.inf)
    forced[TURN_END] = 0.0
    policy.lm_head.register_forward_hook(lambda _, __, logits: logits * 0 + forced)
    tokens, _ = sample_cached(
        policy,
        encoder().prompts([USER]),
        response_tokens=8,
        temperature=0.0,
        eos=TEXT_END,
        pad=PAD,
        generator=torch.Generator(),
    )
    assert tokens.tolist() == [[TURN_END]]


def test_what_is_trained_ends_a_response_in_transformers_as_it_was_sampled_here(tmp_path):
    policy, ours = tiny_policy(vocab_size=263, eos_token_id=TEXT_END), encoder(named=[TURN])
    run = Run(Session(policy, ours, seed=0, budget=1e12))
    save_model(run.policy, tmp_path)
    assert named_ends(tmp_path) == (TEXT_END, TURN, TURN_END)


RAISING = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML


@pytest.mark.parametrize(
    ("template", "why"), [(RAISING, "no system role"), ("{{ 1 / 0 }}", "zero"), ("{{ a.b.c }}", "undefined")]
)
def test_a_template_that_raises_is_a_fault_of_the_row_and_names_it(template, why):
    with pytest.raises(DataError, match=rf"rows.jsonl:3: the chat .* refuses these messages \(system\): .*{why}"):
        encoder(template).prompt([{"role": "system", "content": "Be brief."}], "rows.jsonl:3")


def test_conversations_come_again_from_memory():
    chat = Chat(words())
    assert chat.prompt(USER, "row") is chat.prompt(USER, "row")


def test_no_more_conversations_are_remembered_than_asked_for():
    chat = Chat(words(), most_known=3)
    for number in range(20):
        chat.prompt([{"role": "user", "content": str(number)}], "row")
        assert max(len(chat._written), len(chat._known)) <= 3
