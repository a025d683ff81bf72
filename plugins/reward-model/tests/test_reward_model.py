"""The reward model passes the suite, and recovers the order behind the preferences, as a scorer reads it."""

import random

import pytest
import torch
from zoo_reward_model.config import RewardModelConfig
from zoo_reward_model.train import train, untrained

from zoo_core.models.copies import copied, scorer_from
from zoo_core.models.loading import save_model
from zoo_core.models.scorer import Scorer, row_scores
from zoo_core.registry.references import load_reward
from zoo_core.reward import Sample
from zoo_core.rows import Preference
from zoo_core.run import Run
from zoo_core.testing.suite import AlgorithmSuite
from zoo_core.testing.tiny import tiny_policy, tiny_session, tiny_tokenizer
from zoo_core.testing.toys import PROMPT
from zoo_core.testing.witness import same_weights, weights


class TestRewardModel(AlgorithmSuite):
    name = "reward-model"
    settings = {"batch_size": 8}


class TestHead(AlgorithmSuite):
    name = "reward-model"
    settings = {"batch_size": 8, "scorer": "last-token"}


class TestAdapter(AlgorithmSuite):
    name = "reward-model"
    settings = {"batch_size": 8, "lora_rank": 2}
    updates = 2.7


class TestAdapterWithHead(AlgorithmSuite):
    name = "reward-model"
    settings = {"batch_size": 8, "scorer": "last-token", "lora_rank": 2}
    updates = 2.7


MADE = {
    "ratio": dict(ratio_scale=0.1, learning_rate=5e-3),
    "ratio with adapter": dict(ratio_scale=0.1, learning_rate=2e-2, lora_rank=8),
    "head": dict(learning_rate=5e-3, scorer="last-token"),
    "head with adapter": dict(learning_rate=2e-2, scorer="last-token", lora_rank=8),
}


def said(text):
    return [{"role": "assistant", "content": text}]


def pairs(count, seed):
    """Return pairs of texts of five letters; the one with more of the letter a is chosen."""
    draw = random.Random(seed)
    texts = [["".join(draw.choices("abc", k=5)) for _ in range(2)] for _ in range(3 * count)]
    ordered = [sorted(pair, key=lambda text: text.count("a")) for pair in texts]
    apart = [pair for pair in ordered if pair[0].count("a") != pair[1].count("a")]
    return [Preference(PROMPT, said(good), said(bad), f"pair {n}") for n, (bad, good) in enumerate(apart[:count])]


@pytest.fixture(scope="module", params=MADE)
def trained(request):
    session = tiny_session(["preferences"], rows={"preferences": pairs(96, seed=0)})
    list(train(RewardModelConfig(batch_size=24, epochs=12.0, **MADE[request.param]), Run(session)))
    return session


def scores(trained, answers):
    return row_scores(trained.kept["reward"], trained.encoder.responses(answers).rows)


def test_pairs_it_has_not_seen_are_told_apart(trained):
    seen = {(row.chosen[0]["content"], row.rejected[0]["content"]) for row in trained.rows["preferences"]}
    held_out = [row for row in pairs(120, seed=1) if (row.chosen[0]["content"], row.rejected[0]["content"]) not in seen]
    with torch.no_grad():
        chosen, rejected = (
            scores(trained, [(PROMPT, getattr(row, which)) for row in held_out]) for which in ("chosen", "rejected")
        )
    assert len(held_out) >= 50
    assert (chosen > rejected).float().mean() > 0.9


def test_scores_rise_with_what_was_preferred_when_a_scorer_reads_plain_text(trained):
    scorer = Scorer(trained.kept["reward"], tiny_tokenizer())
    rising = scorer([Sample(PROMPT, "a" * count + "b" * (5 - count), True) for count in range(6)])
    assert rising == sorted(rising)
    assert rising[5] - rising[0] > 0.4


def test_a_scorer_reads_the_tokens_that_the_reward_model_was_trained_on(trained):
    rows = trained.rows["preferences"][:4]
    trained_on = trained.encoder.responses([(row.prompt, row.chosen) for row in rows])
    scorer = Scorer(trained.kept["reward"], tiny_tokenizer())
    with torch.no_grad():
        expected = row_scores(trained.kept["reward"], trained_on.rows).tolist()
    assert scorer([Sample(row.prompt, row.chosen[0]["content"], True) for row in rows]) == pytest.approx(
        expected, abs=1e-5
    )


@pytest.mark.parametrize("pad", [None, 9])
@pytest.mark.parametrize("scorer", ["log-ratio", "last-token"])
def test_a_score_is_the_same_whatever_the_config_of_the_policy_says_of_padding(scorer, pad):
    def first(pad):
        policy = tiny_policy()
        policy.config.pad_token_id = pad
        session = tiny_session(["preferences"], policy=policy)
        return next(train(RewardModelConfig(batch_size=8, scorer=scorer), Run(session)))

    assert first(pad) == pytest.approx(first(0))


def test_the_penalty_keeps_scores_near_zero(trained):
    with torch.no_grad():
        rows = trained.rows["preferences"]
        chosen = scores(trained, [(row.prompt, row.chosen) for row in rows])
        rejected = scores(trained, [(row.prompt, row.rejected) for row in rows])
    assert ((chosen + rejected) / 2).mean().abs() < 0.5 * (chosen - rejected).mean()


def test_no_passes_at_all_are_refused():
    with pytest.raises(ValueError, match=r"epochs=0\.0 must be above 0"):
        RewardModelConfig(epochs=0.0)


def test_no_rank_at_all_is_refused():
    with pytest.raises(ValueError, match="lora_rank=0 must be 1 or more"):
        RewardModelConfig(lora_rank=0)


def test_a_scale_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"ratio_scale=0\.0 must be above 0"):
        RewardModelConfig(ratio_scale=0.0)


def answers_of(session):
    return session.encoder.responses([(row.prompt, row.chosen) for row in session.rows["preferences"][:6]])


@pytest.mark.parametrize("rank", [None, 2])
def test_a_ratio_scores_every_answer_with_0_before_it_is_trained(rank):
    session = tiny_session(["preferences"])
    scorer = untrained(RewardModelConfig(lora_rank=rank), session.policy, 0)
    scorer.config.pad_token_id = 0
    assert row_scores(scorer, answers_of(session).rows).tolist() == [0.0] * 6


@pytest.mark.parametrize("rank", [None, 2])
def test_the_score_of_a_ratio_is_what_the_logits_of_both_models_say_token_by_token(rank):
    session = tiny_session(["preferences"])
    before = copied(session.policy)
    config = RewardModelConfig(batch_size=8, epochs=2.0, learning_rate=1e-2, ratio_scale=0.1, lora_rank=rank)
    list(train(config, Run(session)))
    scorer = session.kept["reward"]
    expected = []
    for asked, said in answers_of(session).rows:
        ids = torch.tensor([[*asked, *said]])
        logs = [model(ids).logits[0].log_softmax(-1) for model in (scorer.policy, before)]
        places = range(len(asked) - 1, len(asked) + len(said) - 1)
        each = [[log[place, token].item() for place, token in zip(places, said, strict=True)] for log in logs]
        expected.append(0.1 * (sum(each[0]) - sum(each[1])))
    found = row_scores(scorer, answers_of(session).rows).tolist()
    assert found == pytest.approx(expected, abs=1e-5)
    assert max(map(abs, found)) > 0.01


@pytest.mark.parametrize("settings", MADE.values(), ids=MADE)
def test_a_reward_that_was_saved_gives_the_same_scores_to_the_bit(settings, tmp_path):
    session = tiny_session(["preferences"])
    list(train(RewardModelConfig(batch_size=8, epochs=1.0, **settings), Run(session)))
    save_model(session.kept["reward"], tmp_path, apart=True)
    tiny_tokenizer().save_pretrained(tmp_path)
    samples = [Sample(PROMPT, text, True) for text in ("ab", "c", "aaa")]
    expected = Scorer(session.kept["reward"], tiny_tokenizer())(samples)
    assert load_reward(str(tmp_path))(samples) == expected
    assert len(set(expected)) == 3


def test_an_adapter_and_a_ratio_hold_the_body_that_the_start_has_in_memory_once():
    session = tiny_session(["preferences"])
    list(train(RewardModelConfig(batch_size=8, epochs=1.0, lora_rank=2), Run(session)))
    theirs = {weight.data_ptr() for weight in session.policy.base_model.parameters()}
    body = [w for path, w in session.kept["reward"].policy.base_model.named_parameters() if ".lora_" not in path]
    assert body
    assert {weight.data_ptr() for weight in body} <= theirs


def test_an_adapter_and_a_head_are_trained_on_the_body_that_the_start_has_in_memory(tmp_path):
    session = tiny_session(["preferences"])
    start = weights(session.policy)
    list(train(RewardModelConfig(batch_size=8, epochs=1.0, scorer="last-token", lora_rank=2), Run(session)))
    scorer = session.kept["reward"]
    assert same_weights(session.policy, start)
    theirs = dict(session.policy.model.named_parameters())
    for path, weight in scorer.model.named_parameters():
        if ".lora_" in path:
            assert weight.requires_grad
        else:
            assert weight.data_ptr() == theirs[path.replace(".base_layer", "")].data_ptr()
    before = scorer_from(session.policy, session.seed).score.weight
    assert not torch.equal(scorer.score.weight, before)
    added = sum(weight.nbytes for path, weight in scorer.named_parameters() if ".lora_" in path or "score" in path)
    assert session.ledger.parameter_bytes == session.ledger.policy_bytes + added
    save_model(scorer, tmp_path, apart=True)
    tiny_tokenizer().save_pretrained(tmp_path)
    samples = [Sample(PROMPT, text, True) for text in ("ab", "c", "aaa")]
    assert load_reward(str(tmp_path))(samples) == Scorer(scorer, tiny_tokenizer())(samples)
