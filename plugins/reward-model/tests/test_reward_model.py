"""The reward model passes the suite, and recovers the order behind the preferences, as a scorer reads it."""

import random

import pytest
import torch
from zoo_reward_model.config import RewardModelConfig
from zoo_reward_model.train import train

from zoo_core.models.copies import scorer_from
from zoo_core.models.loading import save_model
from zoo_core.models.scorer import Scorer, row_scores
from zoo_core.registry.references import load_reward
from zoo_core.reward import Sample
from zoo_core.rows import Preference
from zoo_core.run import Run
from zoo_core.testing.suite import AlgorithmSuite, same_weights, weights
from zoo_core.testing.tiny import tiny_policy, tiny_session, tiny_tokenizer
from zoo_core.testing.toys import PROMPT


class TestRewardModel(AlgorithmSuite):
    name = "reward-model"
    settings = {"batch_size": 8}


class TestAdapter(AlgorithmSuite):
    name = "reward-model"
    settings = {"batch_size": 8, "lora_rank": 2}
    updates = 2.7


def said(text):
    return [{"role": "assistant", "content": text}]


def pairs(count, seed):
    """Return pairs of texts of five letters; the one with more of the letter a is chosen."""
    draw = random.Random(seed)
    texts = [["".join(draw.choices("abc", k=5)) for _ in range(2)] for _ in range(3 * count)]
    ordered = [sorted(pair, key=lambda text: text.count("a")) for pair in texts]
    apart = [pair for pair in ordered if pair[0].count("a") != pair[1].count("a")]
    return [Preference(PROMPT, said(good), said(bad), f"pair {n}") for n, (bad, good) in enumerate(apart[:count])]


@pytest.fixture(scope="module", params=[None, 8], ids=["whole", "adapter"])
def trained(request):
    session = tiny_session(["preferences"], rows={"preferences": pairs(96, seed=0)})
    rate = 5e-3 if request.param is None else 2e-2
    list(
        train(RewardModelConfig(batch_size=24, learning_rate=rate, epochs=12.0, lora_rank=request.param), Run(session))
    )
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
    assert rising[5] - rising[0] > 1.0


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
def test_the_score_is_read_at_the_last_token_whatever_the_config_of_the_policy_says_of_padding(pad):
    def first(pad):
        policy = tiny_policy()
        policy.config.pad_token_id = pad
        session = tiny_session(["preferences"], policy=policy)
        return next(train(RewardModelConfig(batch_size=8), Run(session)))

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


def test_an_adapter_and_a_head_are_trained_on_the_body_that_the_start_has_in_memory(tmp_path):
    session = tiny_session(["preferences"])
    start = weights(session.policy)
    list(train(RewardModelConfig(batch_size=8, epochs=1.0, lora_rank=2), Run(session)))
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
