"""A reward reads text, so that any scorer serves any policy."""

import json

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from zoo_core.calibration import standardised
from zoo_core.errors import ModelError, SpecError
from zoo_core.models import scorer as scorer_module
from zoo_core.models.copies import scorer_from
from zoo_core.models.scorer import Scorer
from zoo_core.registry.references import load_reward
from zoo_core.reward import Calibration, Sample, as_sample, checked, pair_accuracy
from zoo_core.rows import Preference
from zoo_core.run import Run
from zoo_core.testing.tiny import share_of_a, tiny_policy, tiny_session, tiny_tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "very"]
SAMPLES = [
    Sample("a very ", "good film", True),
    Sample("bad ", "", True),
    Sample([{"role": "user", "content": "how?"}], "very very good", False),
    Sample("", "film " * 30, True),
]


def bert(tmp_path=None, **settings):
    """Return a scorer of another architecture and vocabulary than the policy's: no EOS, no template, 16 positions."""
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=8, num_labels=1, max_position_embeddings=16, initializer_range=0.5, **shape)
    model = BertForSequenceClassification(config).eval()
    if tmp_path:
        model.save_pretrained(tmp_path)
        fast.save_pretrained(tmp_path)
    return Scorer(model, fast, **settings)


def llama():
    policy = tiny_policy()
    return Scorer(scorer_from(policy, seed=0).eval(), tiny_tokenizer())


@pytest.mark.parametrize("make", [bert, llama])
def test_a_score_does_not_depend_on_the_batch_it_is_asked_in(make):
    scorer = make()
    together = scorer(SAMPLES)
    assert len({round(score, 4) for score in together}) == len(SAMPLES)
    assert [scorer([sample])[0] for sample in SAMPLES] == pytest.approx(together, abs=1e-5)
    scorer.batch_size = 2
    assert scorer(SAMPLES) == pytest.approx(together, abs=1e-5)
    assert scorer(SAMPLES[::-1]) == pytest.approx(together[::-1], abs=1e-5)
    assert scorer([]) == []


def test_a_scorer_reads_the_words_of_prompt_and_response_in_its_own_vocabulary():
    scorer = bert()
    assert scorer.encode(SAMPLES[0]) == [2, 1, 7, 4, 6, 3]
    assert scorer.encode(SAMPLES[2]) == [2, 7, 7, 4, 3]  # without a template it judges the answer alone


def test_a_scorer_pads_with_its_tokenizers_token_whatever_its_config_says():
    scorer = llama()
    expected = scorer(SAMPLES)
    scorer.model.config.pad_token_id = 9
    assert Scorer(scorer.model, tiny_tokenizer())(SAMPLES) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("packed", [True, False])
def test_where_padding_is_eos_the_token_before_it_is_read_as_transformers_do(packed, monkeypatch):
    scorer = llama()
    samples = [Sample("ab", "cd", True), Sample("ab", "c", False), Sample("ab", "", True)]
    without = Scorer(scorer.model, scorer.tokenizer)([Sample("ab", "cd", False), samples[1]])
    if not packed:
        monkeypatch.setattr(scorer_module, "packs", lambda _: False)
    scorer.tokenizer.pad_token = scorer.tokenizer.eos_token
    found = Scorer(scorer.model, scorer.tokenizer)(samples)
    assert found[:2] == pytest.approx(without, abs=1e-5)
    assert len(set(found)) == 3


def test_of_a_text_that_is_too_long_the_end_is_kept():
    scorer = bert()
    ids = scorer.encode(Sample("bad " * 40, "very good", True))
    assert len(ids) == 16
    assert ids[-3:-1] == [7, 4]
    long = Sample("bad " * 40, "film very", True)
    assert scorer([long])[0] != pytest.approx(scorer([Sample("bad " * 40, "very good", True)])[0], abs=1e-4)


def test_a_scorer_with_a_template_reads_the_conversation_as_it_writes_it():
    scorer = llama()
    sample = Sample([{"role": "user", "content": "hi"}], "abc", True)
    words = scorer.tokenizer.convert_ids_to_tokens(scorer.encode(sample))
    assert words == ["<bos>", "<user>", "h", "i", "<assistant>", "a", "b", "c", "<eos>"]


def test_a_template_that_goes_on_after_the_end_ends_there_all_the_same():
    scorer = llama()
    scorer.tokenizer.chat_template = scorer.tokenizer.chat_template.replace("{{ eos_token }}", "{{ eos_token }}\n")
    sample = Sample([{"role": "user", "content": "hi"}], "abc", True)
    words = scorer.tokenizer.convert_ids_to_tokens(scorer.encode(sample))
    assert words[-4:] == ["a", "b", "c", "<eos>"]


def test_a_scorer_on_disk_is_a_reward_by_its_path(tmp_path):
    scorer = bert(tmp_path)
    assert load_reward(str(tmp_path))(SAMPLES) == pytest.approx(scorer(SAMPLES), abs=1e-5)


def test_a_function_is_a_reward_by_its_name():
    assert load_reward("zoo_core.testing.tiny:share_of_a") is share_of_a
    assert share_of_a(SAMPLES) == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("no_such_module:score", "cannot be imported"),
        ("zoo_core.testing.tiny:nothing", "cannot be imported"),
        ("zoo_core.testing.tiny:LETTERS", "is str, not a function"),
    ],
)
def test_a_function_that_is_none_is_refused(ref, message):
    with pytest.raises(SpecError, match=message):
        load_reward(ref)


def test_a_reward_that_is_nothing_is_refused():
    with pytest.raises(ModelError, match="neither a local directory"):
        load_reward("nothing")


def test_a_calibration_is_kept_beside_its_scorer(tmp_path):
    Calibration(1.5, 0.1).save(tmp_path)
    assert Calibration.load(tmp_path) == Calibration(1.5, 0.1)
    assert json.loads((tmp_path / "calibration.json").read_text()) == {"mean": 1.5, "deviation": 0.1}


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (2.0, 0.5)])
def test_scores_arrive_standardised_and_cost_the_reward_role(mean, deviation):
    session = tiny_session(("reward",), reward=bert())
    session.calibration = Calibration(mean, deviation)
    scores = Run(session).reward(SAMPLES)
    assert scores.tolist() == pytest.approx([(score - mean) / deviation for score in bert()(SAMPLES)], abs=1e-5)
    assert session.ledger.meter.cells["reward", "score"] > 0
    assert not scores.requires_grad


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (50.0, -7.0)])
def test_a_stage_that_climbs_a_reward_has_it_in_units_of_the_samples_drawn_where_it_begins(scale, offset):
    seen = []

    def reward(samples):
        seen.extend(samples)
        return [offset + scale * len(sample.response) for sample in samples]

    stage = standardised(Run(tiny_session(["prompts"])), "rl", reward)
    assert len(seen) == 256
    scores = stage.reward(seen[:256])
    assert scores.mean().item() == pytest.approx(0.0, abs=1e-5)
    assert scores.std(correction=0).item() == pytest.approx(1.0, abs=1e-5)


def test_a_reward_that_says_the_same_of_everything_leaves_training_finite():
    from zoo_core.registry.plugins import plugins

    record = plugins().algorithm("ppo")
    session = tiny_session(("prompts", "reward"), reward=lambda samples: [0.0 for _ in samples])
    config = record.load_config()(batch_size=8, minibatch_size=8, missing_eos_penalty=0.0)
    training = record.load_train()(config, Run(session))
    for _ in range(2):
        assert all(abs(value) < 1e12 for value in next(training).values())


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([1.0], "gave 1 scores for 3 samples"),
        ([1.0, float("nan"), 2.0], "gave the score nan"),
        ([1.0, 2.0, float("inf")], "inf"),
    ],
)
def test_a_reward_must_give_one_finite_number_per_sample(scores, message):
    with pytest.raises(SpecError, match=message):
        checked(lambda samples: scores, SAMPLES[:3])


def test_a_response_that_was_cut_is_read_without_an_end():
    scorer = llama()
    eos = scorer.tokenizer.eos_token_id
    whole, cut = (scorer.encode(Sample("ab", "cd", ended)) for ended in (True, False))
    assert whole == [*cut, eos]
    assert eos not in cut


def test_pair_accuracy_counts_the_pairs_that_a_reward_orders_as_people_did_and_ties_as_half():
    answers = [("aa", "ab"), ("ab", "aa"), ("b", "c"), ("ac", "b")]  # right, wrong, tied, right
    rows = [Preference("hi", chosen, rejected, str(n)) for n, (chosen, rejected) in enumerate(answers)]
    assert pair_accuracy(share_of_a, rows) == 2.5 / 4
    assert pair_accuracy(share_of_a, rows[2:3]) == 0.5
    assert pair_accuracy(lambda samples: [-score for score in share_of_a(samples)], rows) == 1.5 / 4


def test_of_an_answer_of_several_messages_the_last_is_the_response_and_the_others_belong_to_the_prompt():
    asked, *more = (
        {"role": role, "content": text} for role, text in [("user", "a"), ("assistant", "b"), ("user", "c")]
    )
    said = {"role": "assistant", "content": "d"}
    assert as_sample([asked], [said]) == Sample([asked], "d", True)
    assert as_sample([asked], [*more, said]) == Sample([asked, *more], "d", True)
    assert as_sample("a", "d") == Sample("a", "d", True)
