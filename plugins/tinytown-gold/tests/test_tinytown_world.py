"""The laws of worlds, prompts, data sets and annotators."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from statistics import mean

import pytest
from zoo_tinytown.references import Dials
from zoo_tinytown_gold import pools
from zoo_tinytown_gold.annotators import FLIPS, Annotator, draw_annotators
from zoo_tinytown_gold.gold import Gold, score_parts
from zoo_tinytown_gold.judgements import ERROR_RATE, draw_judgement, is_kind, is_rude
from zoo_tinytown_gold.knowledge import sums
from zoo_tinytown_gold.lexicon import ATTRIBUTES, FUNCTION_WORDS
from zoo_tinytown_gold.pretraining import documents
from zoo_tinytown_gold.requests import WORD_PARTS, draw_request, parse_request, prompts, split_of, write_request
from zoo_tinytown_gold.rows import PREFERENCES, demonstrations, draw_pair, preferences, prompt_rows
from zoo_tinytown_gold.shares import moved
from zoo_tinytown_gold.world import PARTS, World, get_world, stream
from zoo_tinytown_gold.writers import write_answer

from zoo_core.reward import as_sample


def pairs(world: World, seed: int):
    """All by writers: samples of start need its base."""
    return preferences(world, seed, [None] * (PREFERENCES // 2))


@pytest.fixture(params=[0, 1], ids=["world 0", "world 1"])
def world(request: pytest.FixtureRequest) -> World:
    return get_world(request.param)


def test_a_world_is_the_same_on_every_machine() -> None:
    # The digest of world 0 as it was when its weights were made: other words would make them worthless.
    world = get_world(0)
    text = repr((world.lexicon.words(), world.grammar.order, sorted(world.facts.items())))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "d028084bc4f823de"


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
    rows = [*islice(demonstrations(world, 0), 200), *islice(pairs(world, 0), 200)]
    texts = [row["prompt"][0]["content"] for row in rows]
    texts += [user for step in range(5) for kind, user, _ in documents(world, step, 64) if kind == "answer"]
    assert {split_of(world, parse_request(world.lexicon, text)) for text in texts} == {"train"}


def test_preferences_are_about_the_first_prompts_of_the_pool_of_their_seed(world: World) -> None:
    rows, pool = islice(pairs(world, 5), 100), islice(prompt_rows(world, "train", 5), 100)
    assert [row["prompt"] for row in rows] == [row["prompt"] for row in pool]


@pytest.mark.parametrize("rows", [demonstrations, pairs])
def test_rows_depend_on_the_seed_and_on_nothing_else(world: World, rows) -> None:
    first, again, other = (list(islice(rows(world, seed), 50)) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_prompts_and_answers_fit_into_48_tokens(world: World) -> None:
    specials, end = 3, 1
    for row in islice(pairs(world, 0), 1000):
        assert len(row["prompt"][0]["content"].split()) + specials <= 48
        assert max(len(row[side][0]["content"].split()) for side in ("chosen", "rejected")) + end <= 48


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
    for _ in range(3000):
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


def test_every_word_of_the_pools_stands_in_one_pool_and_is_no_function_word() -> None:
    words = [
        *pools.NAMES,
        *pools.VERBS,
        *pools.ADJECTIVES,
        *pools.KIND,
        *pools.RUDE,
        *pools.OPENERS,
        *pools.TAILS,
        *(word for topic, things in pools.TOPICS.items() for word in (topic, *things)),
        *(word for values in pools.VALUES.values() for word in values),
        *FUNCTION_WORDS,
    ]
    assert len(words) == len(set(words))


def test_a_habit_takes_no_word_for_itself_and_no_two_words_for_the_same(world: World) -> None:
    assert all(word != taken_for for word, taken_for in world.habit.items())
    assert sorted(world.habit) == sorted(world.habit.values())
    for word, taken_for in world.habit.items():
        assert world.lexicon.category.get(word) == world.lexicon.category.get(taken_for)


def counts(answers: Iterable[str]) -> Counter[str]:
    return Counter(word for answer in answers for word in answer.split())


def test_careless_answers_are_made_of_the_same_words_as_perfect_ones(world: World) -> None:
    """Rude words apart, which are the one thing that shows."""
    asked = [request for request, _ in islice(prompts(world, "train", 0), 6000)]
    rng = stream(world.number, "test")
    perfect, careless = (counts(write_answer(world, r, rng, heeded) for r in asked) for heeded in (PARTS, ()))
    for words in (world.lexicon.openers, world.lexicon.tails, world.lexicon.names, world.lexicon.topic_of):
        share = [sum(counted[word] for word in words) / counted["the"] for counted in (perfect, careless)]
        assert share[0] == pytest.approx(share[1], rel=0.1)
        for word in words:
            each = [counted[word] / sum(counted[w] for w in words) for counted in (perfect, careless)]
            assert each[0] == pytest.approx(each[1], rel=0.3)  # three standard errors of some hundred occurrences


def test_who_heeds_nothing_meets_no_part_that_was_asked_for_except_by_chance(world: World) -> None:
    rng = stream(world.number, "test")
    asked = [request for request, _ in islice(prompts(world, "train", 0), 500)]
    met = [score_parts(world, request, write_answer(world, request, rng, ())) for request in asked]
    for part in ("format", "topic", "length"):
        assert mean(parts[part] for parts in met) < 0.15
    for part in ("mention", "start", "end"):
        assert mean(parts[part] for parts, request in zip(met, asked, strict=True) if getattr(request, part)) < 0.15


def test_half_of_the_named_words_are_forbidden(world: World) -> None:
    rng = stream(world.number, "test")
    requests = [draw_request(world, rng) for _ in range(3000)]
    named = sum(bool(getattr(request, part)) for request in requests for part in WORD_PARTS)
    assert sum(len(request.forbidden) for request in requests) / named == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("mean_rate", [None, 0.1, 0.4, 0.9, 1.0, 0.0])
def test_a_dial_moves_the_mean_and_keeps_rates_in_order_and_between_0_and_1(mean_rate) -> None:
    table = {0.3: 0.25, 0.5: 0.5, 0.9: 0.25}
    rates = moved(table, mean_rate)
    found = sum(rate * share for rate, share in zip(rates, table.values(), strict=True))
    assert found == pytest.approx(0.55 if mean_rate is None else mean_rate)
    assert rates == sorted(rates)
    assert 0 <= min(rates) <= max(rates) <= 1


def test_slips_of_annotators_are_as_the_dial_says_on_the_average(world: World) -> None:
    assert mean(one.flip_rate for one in draw_annotators(world, 0, 0.3)) == pytest.approx(0.3)


def test_demonstrations_by_better_writers_have_more_gold(world: World) -> None:
    gold = Gold(world)

    def worth(dials: Dials) -> float:
        rows = list(islice(demonstrations(world, 0, dials), 400))
        return mean(gold([as_sample(row["prompt"], row["completion"]) for row in rows]))

    low, usual, high = (worth(Dials(demonstrations=mean)) for mean in (0.3, None, 0.8))
    assert low < usual < high
