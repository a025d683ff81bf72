"""RRHF passes the suite, learns the order of responses, and ends at the distribution of the best of n."""

from collections import Counter

import pytest
from zoo_rrhf.config import RRHFConfig
from zoo_rrhf.likelihood import Likelihood
from zoo_rrhf.train import train

from zoo_core.datasets.parse import parse_rows
from zoo_core.reward import pair_accuracy
from zoo_core.rows import Preference
from zoo_core.run import Run
from zoo_core.testing.suite import AlgorithmSuite
from zoo_core.testing.tiny import tiny_session
from zoo_core.testing.toys import ARMS, BANDIT, arm_probabilities, bandit, five_letters


class TestRRHF(AlgorithmSuite):
    name = "rrhf"
    settings = {"batch_size": 8, "samples": 2}
    updates = 30.0
    loops = 2


def pair(prompt, chosen, rejected):
    prompt, chosen, rejected = (
        [{"role": role, "content": text}]
        for role, text in [("user", prompt), ("assistant", chosen), ("assistant", rejected)]
    )
    return Preference(prompt, chosen, rejected, f"{prompt} {chosen} {rejected}")


def pairs_of_a(prompts):
    """Pairs of two letters of which people prefer the one with more of the letter a."""
    texts = [(x + y, z + w) for x in "abe" for y in "abe" for z in "abe" for w in "abe"]
    texts = [(one, other) for one, other in texts if one.count("a") > other.count("a")]
    return [pair(prompt, *two) for prompt in prompts for two in texts]


PAIRS = {"preferences": pairs_of_a(["ab"])}
"""24 pairs."""


def trained(config, budget, **settings):
    """Train; return the session, and the metrics and FLOPs of each update."""
    session = tiny_session(["preferences", "reward"], budget=budget, **settings)
    history = [(metrics, session.ledger.flops) for metrics in train(config, Run(session))]
    return session, history


def test_a_reward_sees_the_row_of_a_pair_with_its_answers_and_with_all_samples():
    rows = [
        {"prompt": [{"role": "user", "content": "ab"}], "chosen": [{"role": "assistant", "content": one}], **rest}
        for one, rest in (("a", {"answer": "4"}), ("e", {"answer": "5"}))
    ]
    wrong = [{"role": "assistant", "content": "b"}]
    pairs = parse_rows("x", "preferences", [{**row, "rejected": wrong} for row in rows])
    seen = []

    def reward(samples):
        seen.extend(sample.row["answer"] for sample in samples)
        return [0.0 for _ in samples]

    session = tiny_session(["preferences", "reward"], rows={"preferences": pairs}, reward=reward)
    next(train(RRHFConfig(batch_size=2, samples=3), Run(session)))
    assert Counter(seen) == {"4": 5, "5": 5}
    assert len(set(seen[:5])) == 1


def test_a_group_is_the_pair_and_the_samples_that_differ_with_the_scores_of_all():
    session = tiny_session(["preferences", "reward"], policy=five_letters(), rows=PAIRS)
    rows = list(PAIRS["preferences"])
    training = train(RRHFConfig(samples=20), Run(session))
    history = [next(training) for _ in range(5)]
    groups = session.kept["groups"]
    assert len(groups) == len(rows) == 24  # one pass of 3 updates over 24 pairs
    assert [set(metrics) & {"score", "rank_loss"} for metrics in history] == [{"score"}] * 3 + [{"rank_loss"}] * 2
    for group in groups:
        chosen, rejected, *sampled = group["responses"]
        (row,) = [row for row in rows if (row.chosen, row.rejected) == (chosen, rejected)]
        rows.remove(row)
        texts = [chosen[0]["content"], rejected[0]["content"], *sampled]
        shares = [text.count("a") / max(1, len(text)) for text in texts]
        expected = [share if ended else share - 1.0 for share, ended in zip(shares, group["ended"], strict=True)]
        assert group["scores"] == pytest.approx(expected)
        assert len(set(zip(texts, group["ended"], strict=True))) == len(texts) == len(group["ended"])
        # A sample that was cut has the longest length; one that ended itself is shorter.
        assert all((len(text) < 6) >= ended for text, ended in zip(sampled, group["ended"][2:], strict=True))
    assert len({len(group["scores"]) for group in groups}) > 1
    assert any(False in group["ended"] for group in groups)


def test_metrics_of_collecting_tell_what_was_sampled_and_what_is_taught():
    session = tiny_session(["preferences", "reward"], policy=five_letters(), rows=PAIRS)
    metrics = next(train(RRHFConfig(batch_size=24, samples=4), Run(session)))
    groups = session.kept["groups"]
    ended = [list(zip(group["scores"], group["ended"], strict=True)) for group in groups]
    best = [max(score for score, end in some if end) for some in ended]
    assert metrics["best_score"] == pytest.approx(sum(best) / 24)
    assert metrics["score"] < metrics["best_score"] - 0.3
    assert 0.0 < metrics["ended"] < 1.0
    assert session.ledger.reward_queries == 24 * (4 + 2)


def test_a_response_that_was_cut_is_trained_on_without_an_end(monkeypatch):
    session, seen = tiny_session(["preferences", "reward"], policy=five_letters(), rows=PAIRS), []
    encode = Run.encode
    monkeypatch.setattr(Run, "encode", lambda run, *given: seen.append((given, encode(run, *given))) or seen[-1][1])
    training = train(RRHFConfig(batch_size=24), Run(session))
    for _ in range(3):
        next(training)
    ((_, ended), responses) = seen[0]
    last = responses.responses.gather(1, responses.mask.sum(1, keepdim=True) - 1).squeeze(1)
    some = responses.mask.sum(1) > 1  # an empty response is its end, even where the policy wrote special tokens only
    assert (last == 2)[some].tolist() == [end for end, long in zip(ended, some.tolist(), strict=True) if long]
    assert False in ended


def test_the_trained_policy_ranks_pairs_of_prompts_it_has_not_seen():
    rows, unseen = pairs_of_a(["ab", "cd", "e"]), pairs_of_a(["da", "ee", "b"])
    session, history = trained(RRHFConfig(learning_rate=3e-3), 5e8, policy=five_letters(), rows={"preferences": rows})
    tokenizer = session.encoder.tokenizer
    assert pair_accuracy(Likelihood(five_letters(), tokenizer), unseen) < 0.7
    assert pair_accuracy(Likelihood(session.policy, tokenizer), unseen) > 0.9
    losses = [metrics for metrics, _ in history if "rank_loss" in metrics]
    # One batch is noisy: its samples may be far apart, or alike.
    assert sum(metrics["rank_loss"] for metrics in losses[-8:]) / 8 < 0.8 * losses[0]["rank_loss"]
    assert sum(metrics["pair_accuracy"] for metrics in losses[-8:]) / 8 > 0.9


def test_ranking_orders_the_responses_which_imitation_alone_does_not():
    def left(rank_weight):
        config = RRHFConfig(learning_rate=3e-3, rank_weight=rank_weight)
        _, history = trained(config, 6e8, policy=five_letters(), rows=PAIRS)
        return sum(metrics["rank_loss"] for metrics, _ in history[-3:]) / 3

    assert left(1.0) < 0.6 * left(0.0)


def test_later_iterations_sample_from_what_was_trained_and_share_the_budget_equally():
    budget = 1.2e9
    session, history = trained(RRHFConfig(iterations=3, learning_rate=1e-2), budget, policy=five_letters(), rows=PAIRS)
    starts = [number for number, (metrics, _) in enumerate(history) if "score" in metrics][::3]
    scores = [sum(history[start + number][0]["score"] for number in range(3)) / 3 for start in starts]
    assert len(scores) == 3
    assert scores[0] < scores[1] < scores[2]
    assert scores[2] > scores[0] + 0.3
    spent = [history[start - 1][1] / budget for start in starts[1:]]
    assert spent == pytest.approx([1 / 3, 2 / 3], abs=0.05)
    assert len(session.kept["groups"]) == 24  # of the last iteration alone


def test_collecting_ends_at_its_share_of_the_budget_or_with_the_prompts():
    def collected(share):
        rows = {"preferences": pairs_of_a(["ab", "cd", "e"])}
        _, history = trained(RRHFConfig(collect_share=share, samples=4, iterations=1), 3e8, rows=rows)
        return [flops for metrics, flops in history if "score" in metrics]

    some, every = collected(0.2), collected(0.9)
    assert len(every) == 9  # 72 pairs at 8 an update
    assert 2 <= len(some) < 9
    assert 0.2 * 3e8 - 1.3 * some[0] < some[-1] <= 0.2 * 3e8


def test_imitation_alone_ends_at_the_distribution_of_the_best_of_four():
    # Of n samples the best has reward r with probability F(r)ⁿ − F(r−)ⁿ, F being the start's distribution of rewards.
    # The pair is the worst arm twice, which never beats a sample. Likelihood is highest at the observed frequencies.
    policy = bandit()

    def probabilities():
        return dict(zip(ARMS, arm_probabilities(policy).tolist(), strict=True))

    def distance(one, other):
        return 0.5 * sum(abs(one[arm] - other[arm]) for arm in ARMS)

    start, below, best_of_four = probabilities(), 0.0, {}
    for arm in sorted(ARMS, key=ARMS.__getitem__):
        best_of_four[arm] = (below + start[arm]) ** 4 - below**4
        below += start[arm]
    session, _ = trained(
        RRHFConfig(samples=4, iterations=1, rank_weight=0.0, learning_rate=2e-2, batch_size=96),
        2e9,
        policy=policy,
        **{**BANDIT, "rows": {"preferences": [pair("hi", "a", "a") for _ in range(96)]}},
    )
    best = Counter(max(group["scores"]) for group in session.kept["groups"])
    observed = {arm: best[reward] / best.total() for arm, reward in ARMS.items()}
    assert distance(start, best_of_four) > 0.3
    assert distance(observed, best_of_four) < 0.08
    assert distance(probabilities(), observed) < 0.03


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples": 0}, "samples=0 must be 1 or more"),
        ({"iterations": 0}, "iterations=0 must be 1 or more"),
        ({"batch_size": 0}, "batch_size=0 must be 1 or more"),
        ({"collect_share": 0.0}, r"collect_share=0\.0 must be above 0"),
        ({"collect_share": 1.0}, r"collect_share=1\.0 must be below 1"),
        ({"temperature": 0.0}, r"temperature=0\.0 must be above 0"),
        ({"rank_weight": -1.0}, r"rank_weight=-1\.0 must be 0 or more"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RRHFConfig(**settings)
