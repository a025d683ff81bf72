"""What a training computes before, after and between its loops is counted, and flagged if less is charged."""

import pytest
import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode as current

from zoo_core.errors import PluginError
from zoo_core.rollout import response_logprobs
from zoo_core.run import Run
from zoo_core.session.steps import steps
from zoo_core.testing.tiny import tiny_session

BIG = torch.ones(64, 64)
HIDDEN = 2 * 64**3
BUDGET = 1e8  # a thousandth of it is 1e5 FLOPs, below one hidden product


def flags(train, **settings):
    session = tiny_session(**{"budget": BUDGET, **settings})
    list(steps(train(Run(session)), session))
    assert current() is None
    return [flag for flag in session.ledger.report()["flags"] if "outside of updates" in flag]


def updates(run, name=None):
    for update in (run.stage(name, share=0.3) if name else run).updates():
        rows = run.demonstrations.batch(update, 4)
        yield {"loss": -response_logprobs(run.policy, rows).mean().item()}


def before(run):
    BIG @ BIG
    yield from updates(run)


def between(run):
    yield from updates(run, "first")
    BIG @ BIG
    yield from updates(run)


def after(run):
    yield from updates(run)
    BIG @ BIG


def after_a_break(run):
    for update in run.updates():
        yield {"update": update}
        if update == 1:
            break
    BIG @ BIG


@pytest.mark.parametrize("train", [before, between, after, after_a_break])
def test_hidden_compute_is_flagged_wherever_it_is(train):
    (flag,) = flags(train)
    assert flag == f"unmetered compute: {HIDDEN:.3g} FLOPs outside of updates, of which 0 were charged"


def test_what_is_charged_by_the_meter_or_declared_has_no_flag():
    def honest(run):
        response_logprobs(run.policy, run.demonstrations.batch(0, 8))
        BIG @ BIG
        run.declare("selection", HIDDEN)
        run.sample(run.prompts.batch(0, 4))
        yield from updates(run)

    assert flags(honest) == []


def test_what_is_little_beside_the_budget_has_no_flag():
    assert flags(before, budget=1.1e3 * HIDDEN) == []


def test_what_no_formula_counts_is_named():
    def solves(run):
        torch.linalg.inv(BIG + torch.eye(64))
        yield from updates(run)

    (flag,) = flags(solves)
    assert flag.startswith("compute outside of updates could not be audited: aten.linalg_inv_ex")


def test_no_audit_is_no_audit():
    assert flags(before, audited=0.0) == []


def test_nothing_is_counted_any_longer_when_a_training_fails_or_is_left():
    def fails(run):
        BIG @ BIG
        raise PluginError("before the loop")
        yield

    session = tiny_session(budget=BUDGET)
    with pytest.raises(PluginError, match="before the loop"):
        list(steps(fails(Run(session)), session))
    assert current() is None

    session = tiny_session(budget=BUDGET)
    training = updates(Run(session))
    next(steps(training, session))
    training.close()
    assert current() is None
