"""Every rule with rows that break it and rows that do not; kinds and quotas against hand-worked numbers and laws."""

import warnings

import pytest
from zoo_lima.selection import (
    Pair,
    copies_the_prompt,
    cut_off,
    find_kinds,
    first_person,
    near_duplicates,
    odd_lengths,
    quotas,
    refers_elsewhere,
    repeats_itself,
    runs,
    sift,
    unlike_others,
)


def breaks(rule, answer, prompt="What is it?"):
    """Whether the one row breaks the rule."""
    (verdict,) = rule([Pair(prompt, answer)])
    assert type(verdict) is bool
    return verdict


def answers(*texts):
    return [Pair(f"prompt {number}", text) for number, text in enumerate(texts)]


def test_answers_shorter_or_longer_than_the_quantiles_break_and_the_bounds_themselves_do_not():
    # Lengths 10, 20, .., 110: the quantiles .1 and .8 are 20 and 90.
    pool = answers(*("x" * length for length in range(10, 120, 10)))
    assert odd_lengths(pool, 0.1, 0.8) == [True, *[False] * 8, True, True]
    assert not any(odd_lengths(pool, 0.0, 1.0))
    assert not any(odd_lengths(answers("a", "a", "a"), 0.4, 0.6))


@pytest.mark.parametrize(
    "ending",
    [".", "!", "?", ":", ";", ")", "]", "}", '"', "'", "”", "’", "»", "…", "`", "。", "！", "？", ". ", " ?\n"],
)
def test_an_answer_that_ends_with_a_closing_mark_is_whole(ending):
    assert cut_off(answers("It is so.", "So it is" + ending, "And then it was")) == [False, False, True]


@pytest.mark.parametrize("answer", ["and then it", "so,", "first -", "U.S. and", ""])
def test_an_answer_that_does_not_is_cut_off(answer):
    assert cut_off(answers("It is so.", "Is it?", answer)) == [False, False, True]


def test_where_most_answers_end_without_a_mark_nothing_is_cut_off():
    # as sums do, which end with their number
    assert cut_off(answers("#### 72", "#### 10", "It is 5.")) == [False, False, False]
    assert cut_off(answers("#### 72", "It is 5.")) == [False, False]
    assert cut_off(answers("#### 72", "It is 5.", "It is 6.")) == [True, False, False]
    assert cut_off(answers(*["#### 72"] * 3, *["It is 5."] * 4)) == [True] * 3 + [False] * 4


@pytest.mark.parametrize(
    "answer", ["I think so.", "so i think", "In my view.", "Tell me.", "It is mine", "I'm sorry", "By myself"]
)
def test_an_answer_in_the_first_person_breaks(answer):
    assert breaks(first_person, answer)


@pytest.mark.parametrize(
    "answer",
    ["You may.", "Is it army?", "i.e. this one", "Cases: i) one, ii) two", "Examine this miner", "Welcome."],
)
def test_an_answer_in_another_person_does_not(answer):
    assert not breaks(first_person, answer)


@pytest.mark.parametrize(
    "answer",
    [
        "As mentioned, it is so.",
        "As others have said, no.",
        "Like John pointed out, no.",
        "The other answers are wrong.",
        "See the accepted answer!",
        "In the previous reply it was.",
        "Earlier comments say so.",
        "See above.",
        "see https://example.org/a",
        "at www.example.org",
        "<b>so</b>",
        'an <img src="a.png">',
    ],
)
def test_an_answer_that_refers_elsewhere_breaks(answer):
    assert breaks(refers_elsewhere, answer)


@pytest.mark.parametrize(
    "answer", ["The answer is 5.", "As soon as it is said", "2 < 3 and 5 > 4", "Look above the door.", "No comment."]
)
def test_an_answer_that_stands_for_itself_does_not(answer):
    assert not breaks(refers_elsewhere, answer)


@pytest.mark.parametrize(
    "answer",
    [
        "The old cat sat. The dog ran home. The old cat sat.",
        "the old cat sat ? the OLD cat sat !",
        "The old cat sat\nThe old cat sat",
    ],
)
def test_an_answer_that_says_a_sentence_twice_breaks(answer):
    assert breaks(repeats_itself, answer)


@pytest.mark.parametrize(
    "answer",
    [
        "The old cat sat. The old cat ran. The dog sat down.",
        "No. No. No.",
        "A cat sat. A cat sat.",
        "The value is 1.5 or more. The value is 1.7 or more.",
        "",
    ],
)
def test_an_answer_that_goes_on_does_not_nor_one_that_repeats_a_word_or_three(answer):
    assert not breaks(repeats_itself, answer)


def test_an_answer_whose_words_stand_in_the_prompt_in_the_same_order_breaks():
    prompt = "Please tell: how do you bake a good loaf of white bread at home?"
    assert breaks(copies_the_prompt, "How do you bake a good loaf of white bread?", prompt)
    assert breaks(copies_the_prompt, prompt, prompt)
    # Of its 5 runs of three words 4 are the prompt's: .8; of 6 only 4.
    assert breaks(copies_the_prompt, "do you bake a good cake", "do you bake a good") == (4 - 1 >= 0.8 * 4)
    assert breaks(copies_the_prompt, "do you bake a good loaf now", "do you bake a good loaf")
    assert not breaks(copies_the_prompt, "do you bake a good loaf now dear", "do you bake a good loaf")
    assert not breaks(copies_the_prompt, "Bread white of loaf good a bake you do how", prompt)
    assert not breaks(copies_the_prompt, "Mix flour, water, salt and yeast.", prompt)


def test_a_word_is_a_copy_of_the_same_word_only():
    assert breaks(copies_the_prompt, "Yes!", "yes")
    assert not breaks(copies_the_prompt, "Yes!", "no")


def test_of_rows_that_say_almost_the_same_the_first_is_kept():
    text = "one two three four five six seven eight nine ten eleven"
    # With the prompt's word 12 words, 10 runs of three. The last word changed: 9 in common of 11, .818.
    assert near_duplicates([Pair("q", text), Pair("q", f"{text[:-6]}other")]) == [False, True]
    # A word in the middle changed: 7 in common of 13.
    assert near_duplicates([Pair("q", text), Pair("q", text.replace("five", "other"))]) == [False, False]
    assert near_duplicates([Pair("q", text), Pair("Q?", f"{text}."), Pair("q", text.upper())]) == [False, True, True]
    assert near_duplicates([Pair("q", text), Pair("another", "answer")]) == [False, False]


def test_near_duplicates_share_at_least_eight_tenths_of_what_either_has():
    # 6 words have 4 runs; one more at the end makes 5: 4 of 5 are common, exactly .8; two more make 6: 4 of 6.
    row = Pair("a", "b c d e f")
    assert near_duplicates([row, Pair("a", "b c d e f g")]) == [False, True]
    assert near_duplicates([row, Pair("a", "b c d e f g h")]) == [False, False]
    assert near_duplicates([Pair("a", "b c d e f g h"), row]) == [False, False]


def test_a_near_duplicate_is_not_compared_with_later():
    # Each shares 5 of 6 runs with the one before, and 5 of 7 with the one before that: the third is alike only to the
    # second, which is not kept.
    first, second, third = (Pair("a", " ".join("bcdefghij"[: 6 + more])) for more in range(3))
    assert near_duplicates([first, second, third]) == [False, True, False]
    assert near_duplicates([second, third, first]) == [False, True, True]


def test_runs_are_three_words_without_case_and_punctuation():
    assert runs("Go, now: RUN far!") == {"go now run", "now run far"}
    assert runs("Go now") == {"go now"}
    assert runs("") == {""}


def test_the_answer_whose_word_pairs_no_other_has_is_unlike_all_others():
    # All pairs of the last are its own. Of the 19 others half have 2 pairs of 3 to themselves, half have 1 of 3.
    pool = answers(*(f"It is number {n}." if n % 2 else f"So {n} it is." for n in range(19)), "is It Well number")
    assert unlike_others(pool) == [*[False] * 19, True]


def test_an_answer_is_familiar_by_pairs_that_others_have_and_not_by_its_own_repetitions():
    familiar = ["so it is"] * 38
    assert unlike_others(answers(*familiar, "so it is", "go go go go")) == [*[False] * 39, True]
    assert unlike_others(answers(*familiar, "So, IT is!", "is it so")) == [*[False] * 39, True]


def test_what_counts_is_the_share_of_word_pairs_that_no_other_has_not_their_number():
    # Of 20 answers the one with the largest share is above the quantile .95. 1 of 1 is more than 2 of 3.
    pool = answers(*["so it is"] * 18, "so it goes on", "by chance")
    assert unlike_others(pool) == [*[False] * 19, True]
    assert {type(verdict) for verdict in unlike_others(pool)} == {bool}


def test_where_all_are_equally_strange_nobody_is_unlike_the_others():
    pool = answers(*(" ".join(f"{n}w{place}" for place in range(1 + n % 3)) for n in range(60)))
    assert sum(unlike_others(pool)) == 0
    assert unlike_others(answers("one", "two", "")) == [False, False, False]


def test_rows_are_counted_by_the_first_rule_that_they_break():
    good = [Pair(f"What is number {n}?", f"The number {word} is one of many.") for n, word in enumerate("abcd" * 9)]
    bad = {
        "its length is out of bounds": Pair("Well?", "No."),
        "it is cut off": Pair("Well?", "It goes on and on and"),
        "it is in the first person": Pair("Well?", "I think it goes on and on."),
        "it refers elsewhere": Pair("Well?", "As said before, it goes on."),
        "it repeats itself": Pair("Well?", "It goes on far. It goes on far."),
        "it copies the prompt": Pair("Where does it all end?", "Where does it all end?"),
        "it is unlike all others": Pair("Well?", "Many one number the of is."),
        "it is a near duplicate": good[0],
    }
    kept, rejected = sift([*good, *bad.values()], 0.01, 1.0)
    assert kept == list(range(36))
    assert rejected == {rule: [36 + place] for place, rule in enumerate(bad)}
    assert sift(answers("I go.", "I see.", "I am."), 0.0, 1.0)[0] == []
    # "No" is too short, cut off besides, and counted once.
    kept, rejected = sift([*good, Pair("Well?", "No")], 0.01, 1.0)
    assert sum(map(len, rejected.values())) == 1


def test_a_rejected_row_makes_no_other_a_duplicate():
    rows = answers("It goes on and on and on.", "It goes on and on and on.")
    twins = [Pair("p", "It goes on and on and on and on"), Pair("p", "It goes on and on and on and on.")]
    kept, rejected = sift([*rows, *twins], 0.0, 1.0)
    assert rejected["it is cut off"] == [2]
    assert 3 in kept


def test_no_rule_of_length_is_left_at_quantiles_0_and_1():
    rejected = sift(answers("One.", "This one is longer."), 0.0, 1.0)[1]
    assert rejected["its length is out of bounds"] == []
    assert sift(answers("One.", "This one is longer.", "This is a very long one."), 0.4, 0.6)[0] == [1]


PROMPTS = [f"{verb} a {thing}" for verb, things in {
    "bake": ("loaf", "cake", "bun", "pie"),
    "paint": ("wall", "house", "door", "fence"),
    "sing": ("song", "tune", "hymn", "carol"),
}.items() for thing in things]  # fmt: skip


def test_kinds_are_found_by_the_words_of_the_prompts_and_named_by_what_tells_them_apart():
    kinds = find_kinds(PROMPTS, 3, seed=0)
    labels = [kinds.labels[first : first + 4] for first in (0, 4, 8)]
    assert [len(set(part)) for part in labels] == [1, 1, 1]
    assert [kinds.names[part[0]].split(", ")[0] for part in labels] == ["bake", "paint", "sing"]
    assert all(len(name.split(", ")) == 3 for name in kinds.names)
    assert all("a" not in name.split(", ") for name in kinds.names)
    assert type(kinds.flops) is int


def test_kinds_depend_on_the_seed_and_on_nothing_else():
    prompts = [f"{a} {b} {c}" for a in "abcd" for b in "efgh" for c in "ijkl"]
    assert find_kinds(prompts, 6, seed=0) == find_kinds(prompts, 6, seed=0)
    assert find_kinds(prompts, 6, seed=0).labels != find_kinds(prompts, 6, seed=1).labels


def test_prompts_of_any_script_and_of_one_letter_have_words():
    assert len(set(find_kinds(["1 2", "1 2", "что это", "что это"], 2, seed=0).labels)) == 2


def test_there_are_no_more_kinds_than_distinct_prompts():
    assert max(find_kinds(["the same", "the same", "other"], 16, seed=0).labels) <= 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kinds = find_kinds(["the same", "the same", "other", "other", "other"], 4, seed=0)
    assert kinds.labels[0] == kinds.labels[1] != kinds.labels[2] == kinds.labels[3] == kinds.labels[4]


@pytest.mark.parametrize("prompts", [["", ""], ["?!", "..."]])
def test_prompts_without_words_are_of_one_kind_and_cost_nothing(prompts):
    assert find_kinds(prompts, 4, seed=0) == ([0, 0], ["no words"], 0)


def test_a_prompt_without_words_has_a_kind_beside_others_that_have():
    assert len(find_kinds(["", "bake a loaf", "paint a wall"], 2, seed=0).labels) == 3


def test_the_products_of_k_means_are_charged_step_by_step():
    # 12 prompts of 3 words ("a" counts), 3 kinds, a multiplication and an addition each; k-means++ with 2 + ⌊ln 3⌋ = 3
    # trials. With kinds so clear Lloyd's algorithm is at rest in its second step.
    assert find_kinds(PROMPTS, 3, seed=0).flops == 2 * 36 * 3 * (2 + 3)


def test_quotas_sum_up_exactly_and_no_kind_gives_more_than_it_has():
    sizes = [100, 30, 5, 1, 0]
    for total in range(160):
        for temperature in (0.5, 1.0, 3.0, 1e9):
            given = quotas(sizes, total, temperature)
            assert sum(given) == min(total, 136)
            assert all(count <= size for count, size in zip(given, sizes, strict=True))


def test_at_temperature_1_quotas_are_proportional():
    assert quotas([60, 30, 10], 10, 1.0) == [6, 3, 1]
    assert quotas([500, 300, 200], 100, 1.0) == [50, 30, 20]
    # 3.71, 1.68 and 1.61 are rounded to the nearest that sum up; dividing by q + 1 would give the largest kind 4.
    assert quotas([53, 24, 23], 7, 1.0) == [3, 2, 2]


def test_at_temperature_3_they_go_by_the_cube_root():
    # The roots of 1000, 125 and 27 are 10, 5 and 3.
    assert quotas([1000, 125, 27], 36, 3.0) == [20, 10, 6]
    assert quotas([27, 1000, 125], 36, 3.0) == [6, 20, 10]


def test_at_a_high_temperature_all_kinds_count_alike_until_they_are_used_up():
    assert quotas([100, 50, 20], 9, 1e9) == [3, 3, 3]
    assert quotas([100, 50, 2], 12, 1e9) == [5, 5, 2]


def test_of_equals_the_first_comes_first():
    assert quotas([4, 4, 4], 4, 3.0) == [2, 1, 1]
