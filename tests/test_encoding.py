"""Text becomes tokens in one way: EOS once, cuts visible, padding without effect; what cannot be encoded is said."""

import shutil

import pytest
import torch
from torch.testing import assert_close
from transformers import GPT2Config, GPT2LMHeadModel

from zoo_core.errors import DataError, ModelError
from zoo_core.models.copies import scorer_from
from zoo_core.models.directories import check_directory, weights_sha256
from zoo_core.models.loading import load_policy, load_scorer
from zoo_core.models.tokenizers import load_scorer_tokenizer, load_tokenizer
from zoo_core.rollout import Responses, response_logits, response_logprobs
from zoo_core.testing.tiny import tiny_encoder, tiny_policy, tiny_tokenizer

USER = [{"role": "user", "content": "hi"}]
PAD, BOS, EOS = 0, 1, 2


def said(text):
    return [{"role": "assistant", "content": text}]


def letters(encoder, text):
    return encoder.tokenizer.convert_tokens_to_ids(list(text))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Save a tiny policy and its tokenizer as a user would."""
    path = tmp_path_factory.mktemp("model")
    tiny_policy().save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


@pytest.fixture
def copied(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


# Prompts and responses


def test_a_plain_prompt_starts_with_bos_and_a_conversation_with_the_template():
    encoder = tiny_encoder()
    assert encoder.prompt("hi") == [BOS, *letters(encoder, "hi")]
    user, assistant = encoder.tokenizer.convert_tokens_to_ids(["<user>", "<assistant>"])
    assert encoder.prompt(USER) == [BOS, user, *letters(encoder, "hi"), assistant]


def test_an_empty_prompt_is_one_token_to_predict_from():
    encoder = tiny_encoder()
    encoder.tokenizer._tokenizer.post_processor = None
    assert encoder.prompt("") == [BOS]
    encoder.tokenizer.bos_token = None
    assert encoder.prompt("") == [EOS]


@pytest.mark.parametrize("prompt", ["hi", USER], ids=["plain", "conversation"])
@pytest.mark.parametrize("answer", ["abc", "abc<eos>", "abc<eos>def", ""])
def test_a_response_ends_with_eos_exactly_once(prompt, answer):
    encoder = tiny_encoder()
    completion = answer if isinstance(prompt, str) else said(answer)
    expected = [*letters(encoder, answer.partition("<eos>")[0]), EOS]
    assert encoder.response(prompt, completion) == expected


def test_prompt_and_response_together_are_what_the_template_writes():
    encoder = tiny_encoder()
    text = encoder.tokenizer.apply_chat_template([*USER, *said("abc")], tokenize=False)
    whole = encoder.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert encoder.prompt(USER) + encoder.response(USER, said("abc")) == whole


def test_a_response_that_was_cut_does_not_end():
    encoder = tiny_encoder(response_tokens=3)
    assert encoder.response("hi", "ab") == [*letters(encoder, "ab"), EOS]
    assert encoder.response("hi", "abc") == letters(encoder, "abc")
    assert encoder.response("hi", "abcdef") == letters(encoder, "abc")


def test_a_prompt_that_is_too_long_is_refused_with_its_place_and_length():
    encoder = tiny_encoder()
    assert encoder.fits("a" * 15, "row") is True  # and BOS: 16, the most that is accepted
    assert encoder.fits("a" * 16, "row") is False
    with pytest.raises(DataError, match=r"data.jsonl:7: the prompt has 17 tokens, more than prompt_tokens=16"):
        encoder.prompt("a" * 16, "data.jsonl:7")


def test_a_tokenizer_that_closes_every_text_does_not_end_the_prompt():
    from tokenizers.processors import TemplateProcessing

    encoder = tiny_encoder()
    encoder.tokenizer._tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", BOS), ("<eos>", EOS)]
    )
    assert encoder.prompt("hi") == [BOS, *letters(encoder, "hi")]


def test_a_conversation_without_a_template_is_refused():
    encoder = tiny_encoder()
    encoder.tokenizer.chat_template = None
    with pytest.raises(ModelError, match=r"row 3: .*no chat template.*chat_template.jinja"):
        encoder.prompt(USER, "row 3")


def test_a_template_whose_prompt_is_no_beginning_of_the_answered_one_is_refused():
    encoder = tiny_encoder()
    encoder.tokenizer.chat_template = (
        "{{ 'ab'[messages | length - 1] }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    )
    with pytest.raises(ModelError, match="renders the prompt differently once an answer follows"):
        encoder.response(USER, said("abc"), "row 3")


def test_decoding_gives_back_the_text_without_special_tokens():
    encoder = tiny_encoder()
    assert encoder.decode([BOS, *letters(encoder, "a b!\n"), EOS, PAD]) == "a b!\n"


# Padding


def test_prompts_are_padded_on_the_left_and_responses_on_the_right():
    encoder = tiny_encoder()
    batch = encoder.responses([("a", "bcd"), ("abc", "d")])
    a, b, c, d = letters(encoder, "abcd")
    assert batch.tokens.tolist() == [[PAD, PAD, BOS, a, b, c, d, EOS], [BOS, a, b, c, d, EOS, PAD, PAD]]
    assert batch.attention.int().tolist() == [[0, 0, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 0, 0]]
    assert batch.mask.int().tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch.positions.tolist() == [[0, 0, 0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5, 5, 5]]
    assert (batch.prompt_length, len(batch)) == (4, 2)
    assert batch[torch.tensor([1])].tokens.tolist() == batch.tokens[1:].tolist()


def test_logprobs_do_not_depend_on_padding_or_on_neighbours():
    encoder, policy = tiny_encoder(), tiny_policy()
    pairs = [("a", "bcd"), ("abcdefgh", "d"), ("ab", "dcbaa")]
    with torch.no_grad():
        together = response_logprobs(policy, encoder.responses(pairs))
        for row, pair in enumerate(pairs):
            alone = encoder.responses([pair])
            assert_close(together[row, : alone.mask.shape[1]], response_logprobs(policy, alone)[0], atol=1e-5, rtol=0)


def test_logprobs_are_those_of_the_whole_model_at_each_token():
    encoder, policy = tiny_encoder(), tiny_policy()
    batch = encoder.responses([("ab", "cd")])
    with torch.no_grad():
        logits = policy(batch.tokens).logits[0]
        logprobs = response_logprobs(policy, batch, temperature=0.5)[0]
    for slot, token in enumerate(batch.responses[0]):
        expected = (logits[batch.prompt_length - 1 + slot] / 0.5).log_softmax(-1)[token]
        assert_close(logprobs[slot], expected, atol=1e-5, rtol=0)
    assert response_logits(policy, batch).shape == (1, 3, policy.config.vocab_size)


def test_joining_keeps_prompts_and_repeating_keeps_copies_together():
    encoder = tiny_encoder()
    prompts = encoder.prompts(["a", "abc"]).repeat(2)
    assert list(prompts.texts) == ["a", "a", "abc", "abc"]
    tokens = torch.full((4, 2), EOS)
    joined = Responses.join(prompts, tokens, torch.ones_like(tokens, dtype=torch.bool))
    assert torch.equal(joined.tokens[:, : joined.prompt_length], prompts.tokens)
    assert torch.equal(joined.responses, tokens)


# Models and tokenizers


def test_what_was_saved_is_loaded_ready_to_train_without_dropout(saved):
    policy = load_policy(saved)
    assert policy.config._attn_implementation == "sdpa"
    assert {module.p for module in policy.modules() if isinstance(module, torch.nn.Dropout)} <= {0.0}
    assert all(weight.requires_grad for weight in policy.parameters())
    encoded = load_tokenizer(saved)("hi")["input_ids"]
    assert encoded == tiny_tokenizer()("hi")["input_ids"]


def test_a_model_that_was_trained_with_dropout_is_loaded_without(tmp_path):
    shape = {"vocab_size": 40, "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2}
    GPT2LMHeadModel(GPT2Config(**shape, bos_token_id=1, eos_token_id=2)).save_pretrained(tmp_path)
    policy = load_policy(tmp_path).train()
    tokens = torch.arange(6, 20).unsqueeze(0)
    assert torch.equal(policy(tokens).logits, policy(tokens).logits)


@pytest.mark.parametrize(("name", "remedy"), [("pad", '{"pad_token": "<|pad|>"}'), ("eos", "could ever end")])
def test_a_tokenizer_without_pad_or_eos_is_refused_with_the_line_that_mends_it(copied, name, remedy):
    tokenizer = tiny_tokenizer()
    setattr(tokenizer, f"{name}_token", None)
    tokenizer.save_pretrained(copied)
    with pytest.raises(ModelError, match=f"no {name.upper()} token") as caught:
        load_tokenizer(copied)
    assert remedy in str(caught.value)


def test_padding_with_eos_is_refused(copied):
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = "<eos>"
    tokenizer.save_pretrained(copied)
    with pytest.raises(ModelError, match=r"pads with its EOS token \('<eos>'\).*never learn to stop"):
        load_tokenizer(copied)


def test_a_scorers_tokenizer_needs_padding_only(copied):
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = None
    tokenizer.save_pretrained(copied)
    assert load_scorer_tokenizer(copied).eos_token_id is None
    tokenizer.pad_token = None
    tokenizer.save_pretrained(copied)
    with pytest.raises(ModelError, match="no pad token"):
        load_scorer_tokenizer(copied)


def test_pickled_weights_are_refused_unread(copied):
    (copied / "model.safetensors").unlink()
    (copied / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(ModelError, match=r"pickled weights only \(pytorch_model.bin\).*safe_serialization=True"):
        load_policy(copied)


@pytest.mark.parametrize(
    ("file", "message"), [("config.json", "has no config.json"), ("model.safetensors", "no \\*.safet")]
)
def test_a_directory_without_config_or_weights_is_no_model(copied, file, message):
    (copied / file).unlink()
    with pytest.raises(ModelError, match=message):
        check_directory(copied)


def test_a_broken_weights_file_is_said_to_be_one(copied):
    (copied / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_policy(copied)


def test_a_scorer_has_one_output_and_is_frozen(tmp_path):
    policy = tiny_policy()
    scorer = scorer_from(policy, seed=3)
    scorer.save_pretrained(tmp_path / "scorer")
    loaded = load_scorer(tmp_path / "scorer")
    assert not any(weight.requires_grad for weight in loaded.parameters())
    assert torch.equal(loaded.get_parameter("score.weight"), scorer.get_parameter("score.weight"))
    assert torch.equal(loaded.model.embed_tokens.weight, policy.model.embed_tokens.weight)
    scorer.config.num_labels = 2
    type(scorer)(scorer.config).save_pretrained(tmp_path / "two")
    with pytest.raises(ModelError, match="must have one output, this one has 2"):
        load_scorer(tmp_path / "two")


def test_the_head_of_a_scorer_is_drawn_by_its_seed_with_the_spread_of_ziegler():
    policy = tiny_policy(hidden_size=512, num_hidden_layers=1, intermediate_size=8)
    heads = [scorer_from(policy, seed).get_parameter("score.weight") for seed in (1, 1, 2)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    # 512 draws of standard deviation 1/√513 = .0442; the sample's own is off by 1/√1024 = 3 % on average.
    assert heads[0].std().item() == pytest.approx(513**-0.5, rel=0.12)


def test_the_hash_of_weights_is_of_names_and_values_not_of_files(saved, tmp_path):
    policy = load_policy(saved)
    policy.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    assert weights_sha256(tmp_path / "sharded") == weights_sha256(saved)
    with torch.no_grad():
        policy.model.norm.weight[0] += 1e-6
    policy.save_pretrained(tmp_path / "changed")
    assert weights_sha256(tmp_path / "changed") != weights_sha256(saved)
