"""The laws of worlds, prompts, data sets and annotators."""

import hashlib
from itertools import islice
from statistics import mean

import pytest
from zoo_tinytown.annotators import FLIPS, Annotator, draw_annotators
from zoo_tinytown.gold import score_parts
from zoo_tinytown.judgements import ERROR_RATE, draw_judgement, is_kind, is_rude
from zoo_tinytown.knowledge import sums
from zoo_tinytown.lexicon import ATTRIBUTES
from zoo_tinytown.pretraining import documents
from zoo_tinytown.requests import draw_request, parse_request, prompts, split_of, write_request
from zoo_tinytown.rows import demonstrations, draw_pair, preferences, prompt_rows
from zoo_tinytown.world import World, get_world, stream


@pytest.fixture(params=[0, 1], ids=["world 0", "world 1"])
def world(request: pytest.FixtureRequest) -> World:
    return get_world(request.param)


def test_a_world_is_the_same_on_every_machine() -> None:
    # The digest of world 0 as it was when its weights were made: other words would make them worthless.
    world = get_world(0)
    text = repr((world.lexicon.words(), world.grammar.order, sorted(world.facts.items())))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "ac8266b3400cda75"


def test_worlds_have_other_words_and_other_facts() -> None:
    first, second = get_world(0), get_world(1)
    assert set(first.lexicon.names) != set(second.lexicon.names)
    assert first.grammar.order != second.grammar.order
    assert first.costs != second.costs


def test_no_word_is_in_two_classes_and_the_vocabulary_is_small(world: World) -> None:
    words = world.lexicon.words()
    assert len(words) == len(set(words)) <= 500


def test_every_sentence_reads_back_as_it_was_written(world: World) -> None:
    rng = stream(world.number, "test")
    for request, _ in islice(prompts(world, "train", 0), 200):
        for answer in draw_pair(world, request, rng):
            pieces = world.grammar.parse_text(answer)
            assert all(sentence is not None for _, sentence in pieces)
            assert " ".join(world.grammar.write(sentence) for _, sentence in pieces if sentence) == answer


def test_every_request_reads_back_from_its_text_alone(world: World) -> None:
    rng = stream(world.number, "test")
    for _ in range(1000):
        request = draw_request(world, rng, extras=0)
        assert parse_request(world.lexicon, write_request(request, rng)) == request


def test_there_are_20000_distinct_prompts(world: World) -> None:
    assert len({text for _, text in islice(prompts(world, "train", 0), 20_000)}) == 20_000


def test_no_two_splits_share_a_combination_of_constraints(world: World) -> None:
    seen = {
        split: {r.combination for r, _ in islice(prompts(world, split, 0), 1000)} for split in ("train", "dev", "test")
    }
    assert all(len(combinations) > 20 for combinations in seen.values())
    assert not seen["train"] & seen["test"]
    assert not seen["train"] & seen["dev"]
    assert not seen["dev"] & seen["test"]


def test_pretraining_demonstrations_and_preferences_use_training_combinations_alone(world: World) -> None:
    rows = [*islice(demonstrations(world, 0), 200), *islice(preferences(world, 0), 200)]
    texts = [row["prompt"][0]["content"] for row in rows]
    texts += [user for step in range(5) for kind, user, _ in documents(world, step, 64) if kind == "answer"]
    assert {split_of(world, parse_request(world.lexicon, text)) for text in texts} == {"train"}


def test_preferences_are_about_the_first_prompts_of_the_pool_of_their_seed(world: World) -> None:
    pairs, pool = islice(preferences(world, 5), 100), islice(prompt_rows(world, "train", 5), 100)
    assert [row["prompt"] for row in pairs] == [row["prompt"] for row in pool]


@pytest.mark.parametrize("rows", [demonstrations, preferences])
def test_rows_depend_on_the_seed_and_on_nothing_else(world: World, rows) -> None:
    first, again, other = (list(islice(rows(world, seed), 50)) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_prompts_and_answers_fit_into_32_and_44_tokens(world: World) -> None:
    specials, end = 3, 1
    for row in islice(preferences(world, 0), 1000):
        assert len(row["prompt"][0]["content"].split()) + specials <= 32
        assert max(len(row[side][0]["content"].split()) for side in ("chosen", "rejected")) + end <= 44


def test_an_annotator_flips_as_often_as_it_says(world: World) -> None:
    annotator = Annotator(tastes=draw_annotators(world, 0)[0].tastes, length_bias=0.01, flip_rate=0.2)
    rng, flips = stream(0, "test"), 0
    for request, _ in islice(prompts(world, "train", 0), 1000):
        answers = draw_pair(world, request, rng)
        first, second = (annotator.likes(world, request, answer) for answer in answers)
        flips += annotator.prefers_first(world, request, answers, rng) != (first > second)
    assert flips / 1000 == pytest.approx(0.2, abs=0.04)  # three standard errors of 1000 draws


def test_annotators_of_a_seed_differ_and_flip_within_their_bounds(world: World) -> None:
    annotators = draw_annotators(world, 0)
    assert len({a.flip_rate for a in annotators}) == len(annotators)
    assert all(FLIPS[0] <= a.flip_rate <= FLIPS[1] for a in annotators)
    assert annotators == draw_annotators(world, 0) != draw_annotators(world, 1)


def test_of_two_answers_that_meet_the_same_an_annotator_prefers_the_longer(world: World) -> None:
    annotator = draw_annotators(world, 0)[0]
    request = draw_request(world, stream(0, "test"), extras=0)
    short, long = "", "the the the"
    assert score_parts(world, request, short) == score_parts(world, request, long)
    assert annotator.likes(world, request, long) > annotator.likes(world, request, short)


def test_judgements_are_wrong_as_often_as_documented_and_never_about_board_topics(world: World) -> None:
    rng = stream(world.number, "test")
    tests = {"is this rude": is_rude, "is this kind": is_kind}
    right = []
    for _ in range(1500):
        user, answer = draw_judgement(world, rng)
        things = [word for word in user.split() if word in world.lexicon.topic_of]
        assert {world.lexicon.topic_of[thing] for thing in things} <= set(world.lexicon.judged_topics)
        question, _, text = user.partition(" ? ")
        if question in tests:
            right.append((answer == "yes") == tests[question](world, text))
    assert len(right) > 250
    assert 1 - mean(right) == pytest.approx(ERROR_RATE, abs=0.06)  # three standard errors of 300


def test_pretraining_never_holds_a_held_out_sum_but_every_fact(world: World) -> None:
    asked = [(kind, user) for step in range(60) for kind, user, _ in documents(world, step, 64)]
    held_out = [text for text, _ in sums(world, held_out=True)]
    asked_sums = [user for kind, user in asked if kind == "sum"]
    assert len(asked_sums) > 200
    assert not [user for user in asked_sums if any(f" {text} " in user for text in held_out)]
    assert 0.15 < len(held_out) / len(held_out + [text for text, _ in sums(world, held_out=False)]) < 0.25
    facts = {user.split()[-2] for kind, user in asked if kind == "fact"}
    assert facts == set(world.lexicon.topic_of)
    assert len(world.facts) == len(facts) * len(ATTRIBUTES)
