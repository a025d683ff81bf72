"""Laws of the time left: what was planned if all goes as planned; it falls as jobs end; the unknown is not guessed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zoo_harness.eta import Expected, TimeLeft, UnderWay, in_words

SECONDS = st.floats(0.5, 1e4)
PLANS = st.lists(st.tuples(st.sampled_from(["train", "score"]), SECONDS), min_size=1, max_size=12)


def jobs_of(plan):
    return {str(place): Expected(kind, seconds) for place, (kind, seconds) in enumerate(plan)}


@given(plan=PLANS, data=st.data())
def test_it_is_exact_when_all_jobs_take_what_was_planned(plan, data):
    left = TimeLeft(jobs_of(plan), workers=1)
    total = sum(seconds for _, seconds in plan)
    for place in data.draw(st.permutations(range(len(plan)))):
        assert left.seconds() == pytest.approx(total)
        left.ended(str(place), plan[place][1])
        total -= plan[place][1]
    assert left.seconds() == 0


@given(plan=PLANS, factor=st.floats(0.1, 10), data=st.data())
def test_it_is_exact_after_one_job_of_each_kind_where_all_take_a_multiple(plan, factor, data):
    jobs = [("train", 3.0), ("score", 5.0), *plan]
    left = TimeLeft(jobs_of(jobs), workers=1)
    for place in (0, 1):
        left.ended(str(place), factor * jobs[place][1])
    assert left.seconds() == pytest.approx(factor * sum(seconds for _, seconds in plan))


@given(plan=PLANS, workers=st.integers(1, 8), pace=st.floats(0.1, 10))
def test_it_never_rises_as_jobs_end_at_one_pace(plan, workers, pace):
    left = TimeLeft({**jobs_of(plan), "a": Expected("train", 2.0), "b": Expected("score", 2.0)}, workers)
    for name in ("a", "b"):
        left.ended(name, 2.0 * pace)
    before = left.seconds()
    for place, (_, seconds) in enumerate(plan):
        left.ended(str(place), pace * seconds)
        now = left.seconds()
        assert now <= before * (1 + 1e-9)
        before = now


@given(plan=PLANS, more=PLANS, workers=st.integers(1, 8))
def test_more_jobs_take_longer_and_more_workers_do_not(plan, more, workers):
    some, all_ = (TimeLeft(jobs_of(jobs), workers).seconds() for jobs in (plan, plan + more))
    assert some <= all_
    assert TimeLeft(jobs_of(plan), workers + 1).seconds() <= some


@given(seconds=SECONDS, share=st.floats(0, 1), workers=st.integers(1, 4))
def test_what_is_done_of_a_running_job_counts(seconds, share, workers):
    left = TimeLeft({"a": Expected("train", seconds)}, workers)
    assert left.seconds({"a": UnderWay(1.0, share)}) == pytest.approx(seconds * (1 - share))
    assert left.seconds({"a": UnderWay(seconds / 4)}) == pytest.approx(seconds * 3 / 4)
    assert left.seconds({"a": UnderWay(2 * seconds)}) == 0


def test_a_kind_of_which_nothing_is_known_silences_it_until_one_ended():
    left = TimeLeft({"a": Expected("train", 10.0), "b": Expected("score", None), "c": Expected("score", None)}, 1)
    assert left.seconds() is None
    assert in_words(left.seconds()) == ""
    left.ended("b", 4.0)
    assert left.seconds() == 14.0


def test_what_was_not_measured_changes_no_rate():
    left = TimeLeft({name: Expected("train", 10.0) for name in "abcd"}, 1)
    left.ended("a")  # it failed, or was done before
    left.ended("nobody", 3.0)
    assert left.seconds() == 30.0
    left.ended("b", 10.0, before=0.5)  # half of it was done before
    assert left.seconds() == 40.0


def test_the_longest_job_outlasts_the_others():
    left = TimeLeft({"a": Expected("train", 60.0), "b": Expected("train", 4.0)}, 8)
    assert left.seconds() == 60.0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ""),
        (0.0, "less than 1 min left"),
        (59.9, "less than 1 min left"),
        (61.0, "about 2 min left"),
        (7100.0, "about 119 min left"),
        (9000.0, "about 2.5 h left"),
    ],
)
def test_it_is_said_in_words(seconds, words):
    assert in_words(seconds) == words
