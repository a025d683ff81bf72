"""What a judge says becomes labels, ratings and revisions, and nothing else does."""

import math
from itertools import pairwise
from typing import ClassVar

import pytest
from zoo_rlaif.cai_config import CAIConfig
from zoo_rlaif.config import DirectRLAIFConfig, RLAIFConfig
from zoo_rlaif.constitution import Constitution
from zoo_rlaif.feedback import blank_scorer, fit_reward_model, label_pairs
from zoo_rlaif.labels import Label, Rater, compare
from zoo_rlaif.revision import revise, tune

from zoo_core.errors import SpecError
from zoo_core.judge import Written
from zoo_core.reward import Sample
from zoo_core.run import Run
from zoo_core.testing.tiny import LikesA, tiny_session
from zoo_core.testing.toys import PROMPT

SHIPPED = Constitution.load(None)
CERTAIN = 1e3


class Scripted(LikesA):
    """A judge whose verdict is a function of the question; it remembers what it was asked and writes by number.

    Of what it writes every other text is cut.
    """

    def __init__(self, say, written="thought"):
        self.say, self.written, self.asked = say, written, []

    def verdicts(self, questions, answers):
        self.asked += questions
        return [self.say(question[-1]["content"]) for question in questions]

    def write(self, questions, longest, temperature, seed):
        self.asked += questions
        return [Written(f"{self.written} {number}", ended=number % 2 == 0) for number, _ in enumerate(questions)]


def run_with(judge, **settings):
    return Run(tiny_session(["prompts", "judge"], judge=judge, **settings))


def asked(judge, pairs, constitution=SHIPPED):
    """Return the labels of pairs of answers."""
    run = run_with(judge)
    return compare(run.judge, constitution, constitution.principles[:1] * len(pairs), [PROMPT] * len(pairs), pairs, 0)


def shown_first(question):
    return question.partition("first: ")[2].partition("\n")[0]


def test_a_judge_is_asked_in_both_orders_and_the_label_is_of_the_pair_as_it_came():
    judge = Scripted(lambda question: [math.log(0.8), math.log(0.2)] if shown_first(question) == "x" else [0.0, 0.0])
    labels = asked(judge, [("x", "y"), ("y", "x")])
    assert [shown_first(question[-1]["content"]) for question in judge.asked] == ["x", "y", "y", "x"]
    # (.8 + .5)/2 for x before y; y before x is the complement.
    assert [label.preference for label in labels] == pytest.approx([0.65, 0.35])
    assert [label.same_position for label in labels] == [False, False]


def test_a_judge_that_goes_by_position_prefers_neither_and_is_seen_through():
    (label,) = asked(Scripted(lambda _: [2.0, 0.0]), [("x", "y")])
    assert (label.preference, label.same_position) == (pytest.approx(0.5), True)


def test_a_pair_that_the_judge_abstains_on_in_one_order_has_no_label():
    judge = Scripted(lambda question: None if shown_first(question) == "y" else [CERTAIN, 0.0])
    assert asked(judge, [("x", "y"), ("x", "x")]) == [None, Label(0.5, True)]


def test_with_chain_of_thought_the_judge_answers_after_what_it_wrote_and_is_not_taken_for_certain():
    content = SHIPPED.model_dump()
    content["forms"]["comparison"]["reasoning"] = {"ask": "think!", "conclude": "so?", "tokens": 7}
    thoughtful = Constitution.model_validate(content)

    class Thinker(Scripted):
        def verdicts(self, questions, answers):
            self.asked += questions
            return [[CERTAIN, 0.0] if shown_first(q[0]["content"]) == "x" else [0.0, CERTAIN] for q in questions]

    judge = Thinker(None)
    labels = asked(judge, [("x", "y"), ("y", "x")], thoughtful)
    wrote, answered = judge.asked[1], judge.asked[3]
    assert wrote[-1]["content"].endswith("\nthink!")
    assert [turn["content"] for turn in answered] == [wrote[-1]["content"], "thought 1", "so?"]
    assert [label.preference for label in labels] == pytest.approx([0.6, 0.4])


def test_labels_carry_the_principle_and_the_words_of_the_policy():
    pairs = []
    run = run_with(LikesA())
    config = RLAIFConfig(pairs=16, pairs_per_update=8)
    history = list(label_pairs(config, run.stage("label"), SHIPPED, pairs))
    # `LikesA` abstains on every seventh question of each call: on the last pair but one of eight, in both orders.
    assert [metrics["answered"] for metrics in history] == [7 / 8, 7 / 8]
    assert len(pairs) == 14
    assert {pair["principle"] for pair in pairs} <= {principle.name for principle in SHIPPED.principles}
    for pair in pairs:
        shares = [pair[which].count("a") / max(1, len(pair[which].strip())) for which in ("first", "second")]
        assert (pair["first_preferred"] > 0.5) == (shares[0] > shares[1]) or pair["first_preferred"] == 0.5


def test_a_reward_model_recovers_the_ranking_of_a_judge_with_known_preferences():
    texts = ["aaaa", "aaab", "aabb", "abbb", "bbbb"]
    pairs = [
        {"prompt": PROMPT, "first": x, "second": y, "ended": [True, True], "first_preferred": label.preference}
        for x, y, label in ((x, y, asked(LikesA(), [(x, y)])[0]) for x in texts for y in texts)
    ]
    run = run_with(LikesA())
    scorer = run.keep("reward", blank_scorer(run))
    config = RLAIFConfig(reward_epochs=40.0, reward_batch_size=25, reward_learning_rate=5e-3)
    history = list(fit_reward_model(config, run.stage("fit"), scorer, pairs))
    scores = run.scorer(scorer)([Sample(PROMPT, text, True) for text in texts])
    assert scores == sorted(scores, reverse=True)
    # Labels are σ(4 (share₁ − share₂)): neighbours, a quarter apart, end with scores 1 apart.
    assert [high - low for high, low in pairwise(scores)] == pytest.approx([1.0] * 4, abs=0.25)
    assert history[-1]["loss"] < history[0]["loss"]


def test_labels_that_are_hardly_apart_are_learnt_all_the_same():
    # A judge that gives the first .51: log(.51/.49) = .04. A random head's scores would differ by more from the start.
    pairs = [
        {"prompt": PROMPT, "first": x, "second": y, "ended": [True, True], "first_preferred": 0.51}
        for x, y in (("aaaa", "bbbb"), ("aaab", "bbba"))
    ]
    run = run_with(LikesA())
    scorer = run.keep("reward", blank_scorer(run))
    texts = [Sample(PROMPT, pair[which], True) for pair in pairs for which in ("first", "second")]
    assert run.scorer(scorer)(texts) == [0.0] * 4
    config = RLAIFConfig(reward_epochs=20.0, reward_batch_size=2, reward_learning_rate=1e-3)
    list(fit_reward_model(config, run.stage("fit"), scorer, pairs))
    first, second, third, fourth = run.scorer(scorer)(texts)
    assert [first - second, third - fourth] == pytest.approx([0.04, 0.04], abs=0.02)


class Silent(LikesA):
    """A judge that says and writes nothing."""

    def verdicts(self, questions, answers):
        return [None for _ in questions]

    def write(self, questions, longest, temperature, seed):
        return [Written("", ended=True) for _ in questions]


def test_a_judge_that_prefers_nothing_ends_the_run_with_advice():
    run, pairs = run_with(Silent()), []
    (metrics,) = label_pairs(RLAIFConfig(pairs=8, pairs_per_update=8), run.stage("label"), SHIPPED, pairs)
    assert metrics == {"answered": 0.0, "same_position": 0.0, "decided": 0.0}
    fit = fit_reward_model(RLAIFConfig(), run.stage("fit"), blank_scorer(run), pairs)
    with pytest.raises(SpecError, match=r"abstained on every pair.*reword forms\.comparison"):
        next(fit)


def test_a_judge_that_rates_nothing_ends_the_run_with_advice():
    rater = Rater(run_with(Silent()).judge, SHIPPED, 0)
    with pytest.raises(SpecError, match=r"no rating to any of 1 answers.*reword forms\.rating"):
        rater([Sample(PROMPT, "x", True)])


def test_a_judge_that_revises_nothing_ends_the_run_with_advice():
    run, revisions = run_with(Silent()), []
    list(revise(CAIConfig(revised_prompts=8, prompts_per_update=8), run.stage("revise"), SHIPPED, revisions))
    tuning = tune(CAIConfig(), run.stage("tune"), revisions)
    with pytest.raises(SpecError, match=r"no revision at all.*reword forms\.revision"):
        next(tuning)


def test_ratings_rise_with_what_the_judge_likes_from_minus_one_to_one():
    rater = Rater(run_with(LikesA()).judge, SHIPPED, 0)
    ratings = rater([Sample(PROMPT, text, True) for text in ("bbbb", "abbb", "aabb", "aaab", "aaaa")])
    assert ratings == sorted(ratings)
    assert ratings[0] == pytest.approx(-ratings[4], abs=1e-6)
    assert ratings[2] == pytest.approx(0.0, abs=1e-6)
    assert rater.abstained == 0.0


def test_an_answer_that_is_not_rated_is_worth_the_mean_of_the_others_and_is_counted():
    def say(question):
        text = question.partition("text: ")[2].partition("\n")[0]
        return None if text == "x" else [0.0 if number == int(text) else -CERTAIN for number in range(10)]

    rater = Rater(run_with(Scripted(say)).judge, SHIPPED, 0)
    # Levels 1 and 4 of 0 … 9 are −1 + 2/9 and −1 + 8/9; their mean is −4/9.
    ratings = rater([Sample(PROMPT, text, True) for text in ("1", "x", "4")])
    assert ratings == pytest.approx([-7 / 9, -4 / 9, -1 / 9])
    assert rater.abstained == pytest.approx(1 / 3)


def test_the_same_text_is_always_rated_by_the_same_principle_and_texts_by_different_ones():
    judge = Scripted(lambda question: [0.0] * 10)
    samples = [Sample(PROMPT, "a" * number, True) for number in range(40)]
    Rater(run_with(judge).judge, SHIPPED, 0)(samples)
    Rater(run_with(judge).judge, SHIPPED, 0)(samples[::-1])
    assert judge.asked[:40] == judge.asked[40:][::-1]
    questions = {principle.rating for principle in SHIPPED.principles}
    assert {q for q in questions for text in judge.asked if q in text[0]["content"]} == questions


class Spy(Run):
    """A run that remembers what was encoded to be imitated."""

    encoded: list
    responses: ClassVar[list] = []

    def encode(self, pairs, ended=None):
        self.encoded += pairs
        self.responses.append(super().encode(pairs, ended))
        return self.responses[-1]


def test_a_chain_of_revisions_is_learnt_behind_the_original_prompt_and_without_a_word_of_critique():
    judge = Scripted(lambda question: None, written="r")
    session = tiny_session(["prompts", "judge"], judge=judge)
    run, revisions = Spy(session), []
    Spy.encoded = []
    config = CAIConfig(revised_prompts=8, prompts_per_update=8, revisions=3, tuning_batch_size=24)
    (metrics,) = revise(config, run.stage("revise"), SHIPPED, revisions)
    list(tune(config, run.stage("tune"), revisions))

    prompts = {row.prompt[0]["content"] for row in session.rows["prompts"]}
    assert (len(revisions), metrics["written"]) == (24, 1.0)
    assert {revision["prompt"][0]["content"] for revision in revisions} <= prompts
    assert len(Spy.encoded) == 24
    assert sorted(answer for _, answer in Spy.encoded) == sorted(f"r {number}" for number in range(8) for _ in range(3))
    assert {prompt[0]["content"] for prompt, _ in Spy.encoded} <= prompts
    # Each step asks for a critique of the answer before, and then for a revision that sees it.
    critiques, revised = judge.asked[16:24], judge.asked[24:32]
    assert all("text: r " in question[0]["content"] for question in [*critiques, *revised])
    assert all("fault: r " in question[0]["content"] for question in revised)
    assert all("fault:" not in question[0]["content"] for question in critiques)


def test_a_revision_that_was_cut_is_imitated_without_an_end_and_one_that_ended_with_it():
    session = tiny_session(["prompts", "judge"], judge=Scripted(lambda question: None, written="r"))
    run, revisions = Spy(session), []
    Spy.encoded, Spy.responses = [], []
    config = CAIConfig(revised_prompts=8, prompts_per_update=8, revisions=2, tuning_batch_size=16)
    list(revise(config, run.stage("revise"), SHIPPED, revisions))
    list(tune(config, run.stage("tune"), revisions))
    eos = session.encoder.tokenizer.eos_token_id
    ends = {
        answer: bool(eos in tokens[mask])
        for (_, answer), tokens, mask in zip(
            Spy.encoded, Spy.responses[0].responses, Spy.responses[0].mask, strict=True
        )
    }
    assert ends == {f"r {number}": number % 2 == 0 for number in range(8)}


def test_an_empty_revision_leaves_the_answer_as_it_was_and_a_principle_without_critique_asks_for_none():
    content = SHIPPED.model_dump()
    bare = [{"name": "bare", "revision": "shorter!"}]
    constitution = Constitution.model_validate(content | {"principles": bare})
    judge = Scripted(lambda question: None)
    judge.write = lambda questions, longest, temperature, seed: (
        judge.asked.extend(questions)
        or [Written("" if number % 2 else "new", ended=True) for number, _ in enumerate(questions)]
    )
    revisions = []
    config = CAIConfig(revised_prompts=4, prompts_per_update=4, revisions=2)
    (metrics,) = revise(config, run_with(judge).stage("revise"), constitution, revisions)
    assert len(judge.asked) == 8
    assert [(row["response"], row["critique"]) for row in revisions] == [("new", "")] * 4
    assert metrics == {"written": 0.5, "changed": 0.25}  # the second time nothing is new
    assert all("text: new" in judge.asked[4 + number][0]["content"] for number in (0, 2))
    assert all("text: new" not in judge.asked[4 + number][0]["content"] for number in (1, 3))


@pytest.mark.parametrize(
    ("config", "setting", "message"),
    [
        (RLAIFConfig, {"pairs": 0}, "pairs=0 must be 1 or more"),
        (RLAIFConfig, {"label_share": 0.0}, r"label_share=0\.0 must be above 0 and at most 1"),
        (RLAIFConfig, {"reward_share": 1.5}, r"reward_share=1\.5 must be above 0 and at most 1"),
        (CAIConfig, {"tuning_epochs": 0.0}, r"tuning_epochs=0\.0 must be above 0"),
        (CAIConfig, {"batch_size": 7}, "batch_size=7 must be even"),
        (DirectRLAIFConfig, {"kl_coefficient": 1.0}, r"kl_coefficient=1\.0 must be 0 or more and below 1"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(config, setting, message):
    with pytest.raises(ValueError, match=message):
        config(**setting)


def test_principles_of_a_run_are_those_of_its_seed():
    def principles(seed):
        pairs = []
        run = run_with(LikesA(), seed=seed)
        list(label_pairs(RLAIFConfig(pairs=32, pairs_per_update=16), run.stage("label"), SHIPPED, pairs))
        return [pair["principle"] for pair in pairs]

    assert principles(0) == principles(0)
    assert principles(0) != principles(1)
