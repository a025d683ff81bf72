"""The line is never passed, whatever the updates cost, and little of it is left."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo_core.accounting.budget import BudgetWindow
from zoo_core.errors import BudgetError
from zoo_core.run import Run
from zoo_core.testing.tiny import tiny_policy, tiny_session

POLICY = tiny_policy(hidden_size=8, num_hidden_layers=1, num_attention_heads=1)


def spend(costs, budget):
    """Run a loop whose updates cost so much, for as long as it is let; return the session's ledger and the loops."""
    session = tiny_session((), policy=POLICY, budget=float(budget))
    started = []
    for update in Run(session).updates():
        started.append(costs[update % len(costs)])
        session.ledger.meter.charge("policy", started[-1])
    return session.ledger, started


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(100, 399), min_size=1, max_size=20), st.integers(400, 6_000))
def test_costs_within_a_factor_of_four_never_pass_the_line_and_leave_less_than_one_update(costs, budget):
    ledger, started = spend(costs, budget)
    assert ledger.flops <= budget
    assert budget - ledger.flops <= 1.1 * max(started)
    assert ledger.flops == sum(started[: ledger.updates])
    assert len(started) - ledger.updates == len(ledger.flags) <= 1


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=20), st.integers(1, 20))
def test_any_costs_at_all_pass_the_line_only_under_a_flag(costs, times):
    # The budget is at least the first update's cost, and so many updates of mean cost beside it.
    ledger, _ = spend(costs, budget := costs[0] + times * sum(costs) // len(costs))
    assert ledger.flops <= budget or any("overspent" in flag for flag in ledger.flags)


def test_an_update_that_passes_the_line_is_undone_and_flagged():
    # 40 + 40 leave 20, in which 1.1 · 40 does not fit.
    assert spend([40], 100)[0].flops == 80
    ledger, started = spend([10, 10, 10, 40, 90], 100)
    assert started == [10, 10, 10, 40]
    # 60 leave 40, in which 1.1 · 20 fits; but the fourth costs 60.
    ledger, started = spend([20, 20, 20, 60], 100)
    assert (ledger.flops, ledger.updates, started) == (60, 3, [20, 20, 20, 60])
    assert ledger.flags == ["the last update was discarded: it would have passed the budget"]


def test_a_jump_beyond_what_can_be_undone_is_flagged_as_overspent_and_ends_the_run():
    ledger, _ = spend([10] * 10 + [1_000], 1_000)
    assert ledger.flops == 1_100
    assert ledger.flags == ["overspent: an update cost more than four times the dearest of the eight before it"]
    assert ledger.updates == 11


@pytest.mark.parametrize("budget", [50, 0])
def test_a_budget_too_small_for_one_update_says_what_one_costs(budget):
    with pytest.raises(BudgetError, match=r"the budget is too small for one update.*Raise the budget"):
        spend([80], budget)


def test_only_the_latest_eight_updates_predict_the_next():
    line = BudgetWindow(0, 100.0)
    line.costs.extend([50] + [1] * 8)
    assert line.allows(98)
    assert not line.allows(99)


def test_nothing_starts_on_the_line_itself():
    assert not BudgetWindow(0, 100.0).allows(100)


def test_progress_is_the_share_of_this_part_and_stays_at_one():
    line = BudgetWindow(100, 300.0)
    assert [line.progress(spent) for spent in (100, 150, 300, 900)] == [0.0, 0.25, 1.0, 1.0]
    assert BudgetWindow(0, math.inf).progress(10**20) == 0.0


def test_a_line_remembers_its_costs_in_a_checkpoint():
    line, again = BudgetWindow(0, 1e3), BudgetWindow(0, 1e3)
    line.costs.extend(range(20))
    again.restore(line.state())
    assert (list(again.costs), again.costs.maxlen) == (list(range(12, 20)), 8)
