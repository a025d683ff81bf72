"""Judges: what a causal model says of texts, and what it costs."""

import pytest
import torch

from zoo_core.accounting.ledger import Ledger
from zoo_core.errors import DataError, ModelError, PluginError, SpecError
from zoo_core.judge import CountedJudge, Judge, Written
from zoo_core.models.causal_judge import CausalJudge
from zoo_core.run import Run
from zoo_core.testing.tiny import LikesA, tiny_policy, tiny_session, tiny_tokenizer
from zoo_core.testing.toys import five_letters

QUESTIONS = [
    [{"role": "user", "content": "which?"}],
    [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "or b?"}],
    "plain",
]


def judge(**settings):
    return CausalJudge(tiny_policy(), tiny_tokenizer(), **settings)


def expected(question, answer):
    """Read log P(answer | question) off the model token by token, without padding."""
    tokenizer, model = tiny_tokenizer(), tiny_policy()
    if isinstance(question, str):
        ids = tokenizer(question)["input_ids"]
    else:
        text = tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    total = 0.0
    for token in tokenizer(answer, add_special_tokens=False)["input_ids"]:
        with torch.no_grad():
            total += model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)[token].item()
        ids = [*ids, token]
    return total


@pytest.mark.parametrize("answers", [["a", "b", "z"], ["yes", "no"], ["a", "ab"]], ids=" ".join)
@pytest.mark.parametrize("batch_size", [2, 64])
def test_a_verdict_is_the_log_probability_of_each_whole_answer(answers, batch_size):
    verdicts = judge(batch_size=batch_size).verdicts(QUESTIONS, answers)
    for question, verdict in zip(QUESTIONS, verdicts, strict=True):
        assert verdict == pytest.approx([expected(question, answer) for answer in answers], abs=1e-4)


def test_answers_of_one_token_cost_one_look_at_the_question():
    def cost(answers):
        ledger = Ledger()
        CountedJudge(judge(), ledger).verdicts(QUESTIONS, answers)
        return ledger.flops

    assert cost(["a", "b", "c", "d"]) == cost(["a"])
    # The question is read once for all answers; "ab" adds its own token, at a question of 8 tokens and more.
    assert cost(["a", "b"]) < cost(["ab", "b"]) < 1.3 * cost(["a", "b"])


def test_a_judge_writes_its_greedy_answer_and_samples_by_the_seed():
    greedy = judge().write(QUESTIONS, 4, 0.0, seed=0)
    assert greedy == judge(batch_size=1).write(QUESTIONS, 4, 0.0, seed=1)
    assert all(len(one.text) <= 4 for one in greedy)
    sampled = judge().write(QUESTIONS, 4, 1.0, seed=0)
    assert sampled == judge().write(QUESTIONS, 4, 1.0, seed=0)
    assert sampled != judge().write(QUESTIONS, 4, 1.0, seed=1)


def test_a_judge_says_which_of_its_texts_were_cut_at_the_longest_length():
    # A judge of few letters often ends itself, and its end is one of the four tokens.
    small, questions = CausalJudge(five_letters(), tiny_tokenizer()), ["a", "bcd", "ee"] * 8
    written = small.write(questions, 4, 1.0, seed=0)
    assert {one.ended for one in written} == {True, False}
    assert all(len(one.text) < 4 for one in written if one.ended)
    assert not any(one.ended for one in small.write(questions, 1, 1.0, seed=0) if one.text)


def test_a_question_that_leaves_no_room_for_an_answer_is_refused():
    with pytest.raises(ModelError, match="context of 64 tokens leaves no room"):
        judge().write(QUESTIONS, 64, 0.0, seed=0)


def test_every_call_is_counted_and_its_compute_is_the_judges():
    session = tiny_session(["prompts", "judge"], judge=judge())
    asked = Run(session).judge
    asked.verdicts(QUESTIONS, ["a", "b"])
    asked.write(QUESTIONS[:2], 3, 0.0, 0)
    report = session.ledger.report()
    assert report["judge_calls"] == 5
    assert set(report["flops_by_role_phase"]) == {"judge/score", "judge/sample"}


class Elsewhere(LikesA):
    """A judge on a server that reads ten tokens a question."""

    def __init__(self, parameters):
        self.parameters, self.tokens = parameters, 0

    def verdicts(self, questions, answers):
        self.tokens += 10 * len(questions)
        return super().verdicts(questions, answers)


def test_a_judge_elsewhere_is_charged_two_flops_a_parameter_and_token_and_flagged_if_its_size_is_unknown():
    priced, unpriced = Ledger(), Ledger()
    CountedJudge(Elsewhere(1000), priced).verdicts(QUESTIONS, ["a", "b"])
    CountedJudge(Elsewhere(None), unpriced).verdicts(QUESTIONS, ["a", "b"])
    assert (priced.flops, priced.flags) == (2 * 1000 * 30, [])
    assert (unpriced.flops, unpriced.flags) == (0, ["unpriced: the size of the judge is not known"])
    assert priced.judge_calls == unpriced.judge_calls == 3


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([[0.0, -1.0]], "1 verdicts on 2 questions"),
        ([[0.0, -1.0], [0.0]], r"the verdict \[0\.0\]"),
        ([None, [0.0, float("nan")]], "finite number for each of 2"),
    ],
)
def test_verdicts_that_are_none_are_refused(found, message):
    class Wrong(LikesA):
        def verdicts(self, questions, answers):
            return found

    with pytest.raises(SpecError, match=message):
        CountedJudge(Wrong(), Ledger()).verdicts(QUESTIONS[:2], ["a", "b"])


def test_an_abstention_passes_and_is_counted():
    class Silent(LikesA):
        def verdicts(self, questions, answers):
            return [None for _ in questions]

    ledger = Ledger()
    assert CountedJudge(Silent(), ledger).verdicts(QUESTIONS, ["a", "b"]) == [None] * 3
    assert ledger.judge_calls == 3


def test_too_few_texts_are_refused():
    class Short(LikesA):
        def write(self, questions, longest, temperature, seed):
            return [Written("a", ended=True)]

    with pytest.raises(SpecError, match="wrote 1 texts to 3 questions"):
        CountedJudge(Short(), Ledger()).write(QUESTIONS, 4, 0.0, 0)


def test_the_stages_of_a_run_ask_one_judge():
    run = Run(tiny_session(["judge"]))
    assert run.judge is run.judge is run.stage("label").judge


def test_an_algorithm_that_does_not_list_the_judge_has_none():
    with pytest.raises(PluginError, match="does not list 'judge'"):
        _ = Run(tiny_session(["prompts"])).judge


def test_the_judges_of_the_suite_and_of_the_core_keep_the_protocol():
    assert isinstance(judge(), Judge)
    assert isinstance(LikesA(), Judge)


def test_a_question_longer_than_the_judges_context_is_the_judges_matter():
    short = CausalJudge(tiny_policy(max_position_embeddings=12), tiny_tokenizer())
    long = [{"role": "user", "content": "b" * 30}]
    with pytest.raises(DataError, match=r"the 11 that the judge's context of 12 tokens.*a longer context"):
        short.verdicts([long], ["a", "b"])
