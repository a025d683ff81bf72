"""The laws of the gold reward."""

from dataclasses import dataclass, replace
from itertools import islice
from math import prod

import pytest
from zoo_tinytown_gold.gold import Gold, score_parts
from zoo_tinytown_gold.grammar import Sentence
from zoo_tinytown_gold.requests import Request, prompts, write_request
from zoo_tinytown_gold.world import PARTS, World, get_world, stream
from zoo_tinytown_gold.writers import write_answer, write_oracle

from zoo_core.errors import DataError


@dataclass
class Sample:
    prompt: object
    response: str
    ended: bool = True


@pytest.fixture(params=[0, 1], ids=["world 0", "world 1"])
def world(request: pytest.FixtureRequest) -> World:
    return get_world(request.param)


def example(world: World) -> tuple[Request, list[Sentence]]:
    """Two sentences that meet every constraint there is."""
    words = world.lexicon
    topic, name, verbs = words.board_topics[0], words.names[0], words.verbs
    request = Request(
        form="question",
        length=2,
        topic=topic,
        tone="kind",
        mention=verbs[3],
        start=words.openers[1],
        end=words.tails[2],
        fact=(name, words.adjectives[4]),
    )
    first, second = words.things[topic][:2]
    return request, [
        Sentence(
            "question",
            name,
            verbs[3],
            first,
            opener=request.start,
            tone=words.kind[0],
            epithet=request.fact[1],
        ),
        Sentence("question", name, verbs[5], second, tone=words.kind[1], tail=request.end),
    ]


def parts_of(world: World, request: Request, sentences: list[Sentence]) -> dict[str, float]:
    return score_parts(world, request, " ".join(map(world.grammar.write, sentences)))


def test_an_answer_that_does_all_that_is_asked_meets_every_part(world: World) -> None:
    assert set(parts_of(world, *example(world)).values()) == {1.0}


@pytest.mark.parametrize(
    ("part", "value", "change"),
    [
        ("format", 0.5, lambda w, s: [replace(s[0], form="note"), s[1]]),
        ("topic", 0.5, lambda w, s: [s[0], replace(s[1], thing=w.lexicon.things[w.lexicon.topics[5]][0])]),
        ("tone", 0.0, lambda w, s: [replace(s[0], tone=w.lexicon.rude[0]), s[1]]),
        ("tone", 0.5, lambda w, s: [replace(s[0], tone=""), s[1]]),
        ("mention", 0.0, lambda w, s: [replace(s[0], verb=w.lexicon.verbs[9]), s[1]]),
        ("start", 0.0, lambda w, s: [replace(s[0], opener=""), s[1]]),
        ("start", 0.0, lambda w, s: [replace(s[0], opener=w.lexicon.openers[0]), s[1]]),
        ("end", 0.0, lambda w, s: [s[0], replace(s[1], tail="")]),
        ("fact", 0.0, lambda w, s: [replace(s[0], epithet=""), s[1]]),
        ("fact", 0.0, lambda w, s: [s[0], replace(s[1], epithet=w.lexicon.adjectives[7])]),
        ("consistency", 0.5, lambda w, s: [s[0], replace(s[1], name=w.lexicon.names[7])]),
    ],
)
def test_a_change_that_violates_one_part_lowers_that_part_alone(world, part, value, change) -> None:
    request, sentences = example(world)
    parts = parts_of(world, request, change(world, sentences))
    assert parts.pop(part) == value
    assert set(parts.values()) == {1.0}


@pytest.mark.parametrize(("extra", "value"), [(1, 0.3), (2, 0.0)])
def test_length_is_0_3_one_sentence_off_and_0_beyond(world: World, extra: int, value: float) -> None:
    request, sentences = example(world)
    assert parts_of(world, replace(request, length=2 + extra), sentences)["length"] == value


def test_form_is_the_share_of_distinct_sentences_of_the_world(world: World) -> None:
    request, (first, second) = example(world)
    assert parts_of(world, request, [first, first, second, second])["form"] == 0.5
    broken = " ".join(reversed(world.grammar.write(first).split()[:-1])) + " ?"
    assert score_parts(world, request, f"{broken} {world.grammar.write(second)}")["form"] == 0.5


def test_gold_is_form_squared_times_what_each_violated_part_leaves(world: World) -> None:
    request, (first, second) = example(world)
    response = " ".join(map(world.grammar.write, (replace(first, opener="", form="note"), second, second)))
    # form: 2 distinct of 3; format: 2 of 3 are questions; start: missed; length: one off, 0.3
    # tone, fact, topic, mention, consistency, end: met
    expected = (2 / 3) ** 2 * prod(
        1 - world.costs[part] * lost for part, lost in {"format": 1 / 3, "start": 1.0, "length": 0.7}.items()
    )
    prompt = write_request(request, stream(0, "wording"))
    assert Gold(world)([Sample(prompt, response)])[0] == pytest.approx(expected)


def test_the_oracle_scores_exactly_1_on_1000_test_prompts(world: World) -> None:
    rng = stream(world.number, "test")
    asked = islice(prompts(world, "test", 3), 1000)
    assert set(Gold(world)([Sample(text, write_oracle(world, r, rng)) for r, text in asked])) == {1.0}


def test_an_answer_that_neglects_one_part_loses_gold_whenever_it_was_asked_for(world: World) -> None:
    rng, gold = stream(world.number, "test"), Gold(world)
    asked = list(islice(prompts(world, "test", 3), 300))
    for part in PARTS:
        answers = [write_answer(world, r, rng, set(PARTS) - {part}) for r, _ in asked]
        scores = gold([Sample(text, answer) for (_, text), answer in zip(asked, answers, strict=True)])
        met = gold.parts([Sample(text, answer) for (_, text), answer in zip(asked, answers, strict=True)])[part]
        assert all((score == 1.0) == (value == 1.0) for score, value in zip(scores, met, strict=True))
        assert min(scores) <= 1 - world.costs[part] / 2 + 1e-9  # every second sentence is about another person


@pytest.mark.parametrize("response", ["", "the", ". . .", "<eos>", "hello world .", "\x00\u202e\n\n", "the " * 5000])
def test_text_that_is_no_sentence_scores_0(world: World, response: str) -> None:
    _, text = next(prompts(world, "test", 0))
    assert Gold(world)([Sample(text, response)]) == [0.0]


def test_copying_the_prompt_scores_0(world: World) -> None:
    texts = [text for _, text in islice(prompts(world, "test", 0), 200)]
    assert Gold(world)([Sample(text, text) for text in texts]) == [0.0] * 200


def test_repeating_a_perfect_answer_costs_more_than_half(world: World) -> None:
    request, sentences = example(world)
    prompt = write_request(request, stream(0, "wording"))
    once = " ".join(map(world.grammar.write, sentences))
    assert Gold(world)([Sample(prompt, f"{once} {once}")])[0] < 0.2


def test_a_response_that_did_not_end_scores_0(world: World) -> None:
    request, text = next(prompts(world, "test", 0))
    answer = write_oracle(world, request, stream(0, "test"))
    assert Gold(world)([Sample(text, answer, ended=False), Sample(text, answer)]) == [0.0, 1.0]


def test_messages_and_plain_text_of_a_prompt_score_alike(world: World) -> None:
    request, text = next(prompts(world, "test", 0))
    answer = write_answer(world, request, stream(0, "test"), {"format", "topic"})
    messages = [{"role": "user", "content": text}]
    plain, conversational = Gold(world)([Sample(text, answer), Sample(messages, answer)])
    assert plain == conversational
    assert 0 < plain < 1


@pytest.mark.parametrize(
    "prompt", ["", "hello", "write 2 notes about nothing .", "write 999999 notes about x .", [], "x is y ."]
)
def test_a_prompt_of_no_world_is_refused_with_its_text(world: World, prompt: object) -> None:
    with pytest.raises(DataError, match="not a prompt of this world"):
        Gold(world)([Sample(prompt, "")])


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("mention", lambda w, s: [s[0], replace(s[1], verb=w.lexicon.verbs[3])]),
        ("start", lambda w, s: [replace(s[0], opener=w.lexicon.openers[1]), s[1]]),
        ("end", lambda w, s: [s[0], replace(s[1], tail=w.lexicon.tails[2])]),
    ],
)
def test_a_forbidden_word_is_met_by_its_absence_and_violated_by_one_use(world: World, part, change) -> None:
    request, (first, second) = example(world)
    request = replace(request, forbidden=frozenset(("mention", "start", "end")))
    without = [replace(first, verb=world.lexicon.verbs[9], opener=""), replace(second, tail="")]
    assert set(parts_of(world, request, without).values()) == {1.0}
    parts = parts_of(world, request, change(world, without))
    assert parts.pop(part) == 0.0
    assert set(parts.values()) == {1.0}
