"""A constitution is read strictly, and asked as it is written."""

from collections import Counter

import pytest
import torch
import yaml
from zoo_rlaif.constitution import SHIPPED, Constitution, continued, plain
from zoo_rlaif.labels import drawn

from zoo_core.errors import SpecError
from zoo_core.registry.references import load_judge

FORMS = ("comparison", "rating", "critique", "revision")


def small():
    """Return the content of a constitution with nothing in it that could be left out."""
    return {
        "principles": [{"name": "short", "comparison": "which is shorter?"}],
        "forms": {
            "comparison": {"ask": "{question}\nfirst: {first}\nsecond: {second}", "answers": ["first", "second"]}
        },
    }


def load(tmp_path, content, *needed):
    file = tmp_path / "mine.yaml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return Constitution.load(file, *needed)


def test_the_shipped_one_serves_every_algorithm_and_every_principle_in_every_form():
    shipped = Constitution.load(None, *FORMS)
    assert len(shipped.asked("comparison")) >= 4
    assert all(shipped.asked(form) == list(shipped.principles) for form in FORMS)
    assert shipped.forms.rating.answers == tuple(str(number) for number in range(1, 11))
    assert SHIPPED.is_file()


def test_that_of_tinytown_serves_every_algorithm_in_words_that_its_base_knows():
    judge = load_judge("tinytown:judge")
    constitution = Constitution.load(judge.constitution, *FORMS)
    known = judge.tokenizer.get_vocab()
    asked = [
        constitution.question(form, principle, prompt="", answer="", first="", second="", critique="")[-1]["content"]
        for form in FORMS
        for principle in constitution.asked(form)
    ]
    answers = [*constitution.forms.comparison.answers, *constitution.forms.rating.answers]
    assert [word for text in [*asked, *answers] for word in text.split() if word not in known] == []


def test_a_question_shows_what_is_judged_whatever_braces_it_has(tmp_path):
    constitution = load(tmp_path, small(), "comparison")
    asked = constitution.question("comparison", constitution.principles[0], prompt="", first="{second}", second="b{}")
    assert asked == [{"role": "user", "content": "which is shorter?\nfirst: {second}\nsecond: b{}"}]


def test_examples_come_first_as_turns_or_as_text(tmp_path):
    content = small()
    content["forms"]["comparison"]["examples"] = [{"ask": "a or {b}? ", "answer": "first"}]
    principle = load(tmp_path, content).principles[0]
    said = {"prompt": "", "first": "x", "second": "y"}
    assert load(tmp_path, content).question("comparison", principle, **said) == [
        {"role": "user", "content": "a or {b}? "},
        {"role": "assistant", "content": "first"},
        {"role": "user", "content": "which is shorter?\nfirst: x\nsecond: y"},
    ]
    text = load(tmp_path, content | {"asked_as": "text"}).question("comparison", principle, **said)
    assert text == "a or {b}? first\n\nwhich is shorter?\nfirst: x\nsecond: y"


def test_a_question_goes_on_after_an_answer():
    turns = continued([{"role": "user", "content": "why?"}], "because", "so?")
    assert [turn["content"] for turn in turns] == ["why?", "because", "so?"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert continued("why? ", "because", "so?") == "why? because\nso?"


def test_a_prompt_is_read_as_its_words_and_by_whom_if_there_are_several():
    turn = {"role": "user", "content": "hi"}
    assert (plain("hi"), plain([turn])) == ("hi", "hi")
    assert plain([turn, {"role": "assistant", "content": "ho"}]) == "user: hi\n\nassistant: ho"


def changed(path, value):
    """Return the small constitution with one key changed, or left out."""
    content = small()
    *way, last = path
    place = content
    for step in way:
        place = place[step]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return content


COMPARISON = ("forms", "comparison")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["princples"], [], "princples: Extra inputs"),
        (["principles"], [], "principles: Tuple should have at least 1"),
        (["principles", 0, "comparson"], "?", "principles.0.comparson: Extra inputs"),
        (["principles", 0, "name"], None, "principles.0.name: Field required"),
        ([*COMPARISON, "ask"], "{question} {first}", r"forms.comparison.ask: {second} is missing"),
        ([*COMPARISON, "ask"], "{first} {second}", r"forms.comparison.ask: {question} is missing"),
        (
            [*COMPARISON, "ask"],
            "{question} {first} {second} {third}",
            r"{third} stands for nothing here; there are {fi",
        ),
        ([*COMPARISON, "ask"], "{question} {first} {second} {", "forms.comparison.ask: "),
        ([*COMPARISON, "answers"], ["a"], "forms.comparison.answers.1: Field required"),
        ([*COMPARISON, "reasoning"], {"ask": "?", "conclude": "!", "clamp": [0.6, 0.4]}, "must be .lowest, highest"),
        ([*COMPARISON, "reasoning"], {"ask": "?", "conclude": "!", "tokens": 0}, "reasoning.tokens: Input should be"),
        (["forms", "rating"], {"ask": "{question} {answer}", "answers": ["a"]}, "forms.rating.answers: Tuple should"),
        (["asked_as"], "letter", "asked_as: Input should be 'conversation' or 'text'"),
        (["principles", 0, "critique"], "?", "forms.critique is missing"),
        (["principles", 0, "comparison"], None, "none has a question under `comparison:`"),
        (["forms", "comparison"], None, "forms.comparison is missing"),
    ],
)
def test_a_mistake_is_named_with_its_file_and_key(tmp_path, path, value, message):
    with pytest.raises(SpecError, match=message) as caught:
        load(tmp_path, changed(path, value), "comparison")
    assert str(tmp_path / "mine.yaml") in str(caught.value)


@pytest.mark.parametrize(("content", "message"), [("a: [", "is not YAML"), ("- a", "top level: "), ("", "top level: ")])
def test_a_file_that_is_no_constitution_is_refused(tmp_path, content, message):
    with pytest.raises(SpecError, match=message):
        load(tmp_path, content)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SpecError, match=r"nowhere\.yaml: there is no such file"):
        Constitution.load(tmp_path / "nowhere.yaml")


def test_a_form_that_is_not_asked_in_may_be_missing(tmp_path):
    assert load(tmp_path, small(), "comparison").forms.rating is None
    with pytest.raises(SpecError, match=r"forms\.rating is missing, and this algorithm asks in that form"):
        load(tmp_path, small(), "rating")


def test_principles_are_drawn_alike_and_by_the_seed():
    principles = Constitution.load(None).principles
    draws = drawn(principles, 4000, torch.Generator().manual_seed(0))
    assert draws == drawn(principles, 4000, torch.Generator().manual_seed(0))
    assert draws != drawn(principles, 4000, torch.Generator().manual_seed(1))
    counts = Counter(principle.name for principle in draws)
    assert len(counts) == len(principles) == 4
    # Of 4,000 draws each of four has 1,000 ± 27; five deviations are 137.
    assert all(abs(count - 1000) < 137 for count in counts.values())
