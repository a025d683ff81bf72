"""Not ending never pays: whatever the scores, a response that was cut off is never better off than had it ended.

Each algorithm's own loop makes its first update twice on the same rollout, with one response ended and with it cut off.
What its formulas see on the way is recorded.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
import zoo_grpo.dapo
import zoo_grpo.train
import zoo_online_dpo.train
import zoo_ppo.train
import zoo_raft.train
import zoo_reinforce_pp.train
import zoo_rlaif.reinforce
import zoo_rloo.train
import zoo_rrhf.train
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from zoo_grpo.config import GRPOConfig
from zoo_grpo.relatives import CISPOConfig, DAPOConfig, DrGRPOConfig, GSPOConfig
from zoo_online_dpo.config import OnlineDPOConfig
from zoo_ppo.config import PPOConfig
from zoo_raft.config import RAFTConfig
from zoo_reinforce_pp.config import ReinforcePPBaselineConfig, ReinforcePPConfig
from zoo_rlaif.config import DirectRLAIFConfig, RLAIFConfig
from zoo_rloo.config import RLOOConfig
from zoo_rrhf.config import RRHFConfig
from zoo_rrhf.loss import fine_tune_loss

from zoo_core.endings import ending_rule
from zoo_core.rows import Preference
from zoo_core.run import Run
from zoo_core.testing.tiny import tiny_policy, tiny_rows, tiny_session

SIZE, GROUP = 8, 4
ROUNDING = 1e-5
"""Of advantages of order 1, in float32."""


@dataclass
class Told:
    """How a rollout ends and is scored, and what was seen of an update with it."""

    scores: list[float]
    """Of the pair of RRHF, then of the responses."""
    ended: list[bool]
    texts: list[str] = field(default_factory=list)
    calls: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    """Arguments and result of the last call of each function that was recorded."""

    def sampled(self, sample: Callable[..., Any]) -> Callable[..., Any]:
        def told(*args: Any) -> Any:
            rollout = sample(*args)
            self.texts = [one.response for one in rollout.samples]
            samples = [replace(one, ended=end) for one, end in zip(rollout.samples, self.ended, strict=True)]
            return replace(rollout, ended=torch.tensor(self.ended), samples=samples)

        return told

    def recorded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def recording(*args: Any) -> Any:
            self.calls[function.__name__] = args, (result := function(*args))
            return result

        return recording


def update(train, config, told, watched, updates=1):
    """Make the first updates of a loop; return the metrics of the first."""
    pair = [row for row in tiny_rows()["preferences"] if isinstance(row, Preference)][:1]
    rows = {**tiny_rows(["prompts"]), "preferences": pair}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "sample", told.sampled(Run.sample))
        patch.setattr(Run, "reward", lambda _, samples: torch.tensor(told.scores[-len(samples) :]))
        for owner, name in watched:
            if isinstance(owner, dict):
                patch.setitem(owner, name, told.recorded(owner[name]))
            else:
                patch.setattr(owner, name, told.recorded(getattr(owner, name)))
        session = tiny_session(["prompts", "preferences", "reward"], policy=tiny_policy(), rows=rows)
        training = train(config, Run(session))
        history = [next(training) for _ in range(updates)]
    return history[0]


@dataclass
class Standing:
    """How well off each response is."""

    score: float
    """As the metric says, of all of them."""
    worth: torch.Tensor
    """A row for each: its advantage, or what it is ranked by."""
    imitated: set[int] = field(default_factory=set)


def ppo(told, **rule):
    config = PPOConfig(batch_size=SIZE, minibatch_size=SIZE, **rule)
    metrics = update(zoo_ppo.train.train, config, told, [(zoo_ppo.train, "gae")])
    return Standing(metrics["score"], told.calls["gae"][1])


def grpo(told, scale_rewards=True, **rule):
    config = GRPOConfig(batch_size=SIZE, group_size=GROUP, minibatch_size=SIZE, scale_rewards=scale_rewards, **rule)
    name = "scaled_advantages" if scale_rewards else "centred_advantages"
    metrics = update(zoo_grpo.train.train, config, told, [(zoo_grpo.train, name)])
    return Standing(metrics["score"], told.calls[name][1].unsqueeze(1))


def centred_grpo(told, **rule):
    return grpo(told, scale_rewards=False, **rule)


def relative(told, train, config, **rule):
    """One of GRPO's relatives, which share how groups are scored."""
    settings = config(batch_size=SIZE, group_size=GROUP, minibatch_size=SIZE, **rule)
    name = "centred_advantages" if config is DrGRPOConfig else "scaled_advantages"
    metrics = update(train, settings, told, [(zoo_grpo.train, name)])
    return Standing(metrics["score"], told.calls[name][1].unsqueeze(1))


def dr_grpo(told, **rule):
    return relative(told, zoo_grpo.train.train_dr_grpo, DrGRPOConfig, **rule)


def gspo(told, **rule):
    return relative(told, zoo_grpo.train.train_gspo, GSPOConfig, **rule)


def cispo(told, **rule):
    return relative(told, zoo_grpo.train.train_cispo, CISPOConfig, **rule)


def dapo(told, **rule):
    """Its groups change places, so a response is as well off as it is scored."""
    config = DAPOConfig(batch_size=SIZE, group_size=GROUP, minibatch_size=SIZE, draws=1, **rule)
    metrics = update(zoo_grpo.train.train_dapo, config, told, [(zoo_grpo.dapo, "scored")])
    return Standing(metrics["score"], told.calls["scored"][1][1].unsqueeze(1))


def online_dpo(told, **rule):
    config = OnlineDPOConfig(batch_size=SIZE // GROUP, samples_per_prompt=GROUP, **rule)
    metrics = update(zoo_online_dpo.train.train, config, told, [(zoo_online_dpo.train, "best_and_worst")])
    return Standing(metrics["score"], told.calls["best_and_worst"][0][0].unsqueeze(1))


def reinforce_pp(told, train=zoo_reinforce_pp.train.train, config=ReinforcePPConfig, **rule):
    settings, name = config(batch_size=SIZE, minibatch_size=SIZE, **rule), "whitened_advantages"
    metrics = update(train, settings, told, [(zoo_reinforce_pp.train, name)])
    return Standing(metrics["score"], told.calls[name][1])


def reinforce_pp_baseline(told, **rule):
    return reinforce_pp(told, zoo_reinforce_pp.train.train_with_baseline, ReinforcePPBaselineConfig, **rule)


def rloo(told, **rule):
    config, name = RLOOConfig(batch_size=SIZE, samples_per_prompt=GROUP, **rule), "leave_one_out_advantages"
    metrics = update(zoo_rloo.train.train, config, told, [(zoo_rloo.train, name)])
    return Standing(metrics["score"], told.calls[name][1].unsqueeze(1))


def rlaif(told, config=RLAIFConfig, **rule):
    """The last stage, on whatever reward: that of d-RLAIF is the judge's."""
    settings = config(batch_size=SIZE, **rule)
    metrics = update(zoo_rlaif.reinforce.reinforce, settings, told, [(zoo_rlaif.reinforce, "reinforce_loss")])
    _, values, returns, _ = told.calls["reinforce_loss"][0]
    return Standing(metrics["score"], returns.unsqueeze(1) - values.detach())


def d_rlaif(told, **rule):
    return rlaif(told, DirectRLAIFConfig, **rule)


def raft(told, variant="raft"):
    config = RAFTConfig(variant=variant, batch_size=SIZE // GROUP, samples_per_prompt=GROUP, minibatch_size=SIZE)
    select = zoo_raft.train.SELECTIONS[variant].__name__
    metrics = update(zoo_raft.train.train, config, told, [(zoo_raft.train.SELECTIONS, variant)])
    (scores, _), rows = told.calls[select]
    return Standing(metrics["score"], scores.unsqueeze(1), set(rows.tolist()))


def raft_global(told):
    return raft(told, "raft-global")


def raft_plus_plus(told):
    return raft(told, "raft++")


def rrhf(told, **rule):
    config, watched = RRHFConfig(batch_size=1, samples=SIZE, **rule), [(zoo_rrhf.train, "group")]
    watched += [(zoo_rrhf.train, "rank_loss"), (zoo_rrhf.train, "fine_tune_loss")]
    metrics = update(zoo_rrhf.train.train, config, told, watched, updates=2)
    assert len(set(told.texts)) == SIZE, "responses that are alike count once and could not be told apart"
    (likelihood, scores, complete), _ = told.calls["fine_tune_loss"]
    anew = likelihood.detach().requires_grad_()
    (slope,) = torch.autograd.grad(fine_tune_loss(anew, scores, complete), anew)
    scores = told.calls["rank_loss"][0][1].squeeze(0)
    assert len(scores) == SIZE + 2
    # The pair comes first, and may be imitated, too.
    return Standing(metrics["score"], scores[2:].unsqueeze(1), {int(place) - 2 for place in slope.nonzero()[:, 1]})


GROUPED = [grpo, centred_grpo, dr_grpo, gspo, cispo, rloo, reinforce_pp_baseline]
PENALISED = [ppo, *GROUPED, dapo, online_dpo, reinforce_pp, rlaif, d_rlaif, rrhf]
IMITATING = [raft, raft_global, raft_plus_plus, rrhf]
CONFIGS = [PPOConfig, GRPOConfig, DrGRPOConfig, GSPOConfig, CISPOConfig, OnlineDPOConfig, RLOOConfig, RRHFConfig]
CONFIGS += [ReinforcePPConfig, ReinforcePPBaselineConfig, RLAIFConfig, DirectRLAIFConfig]
"""Of algorithms in which not ending costs one standard deviation by default."""
by_name = {"ids": lambda value: value.__name__}
cases = {
    "scores": st.lists(st.floats(-5, 5, width=32), min_size=SIZE + 2, max_size=SIZE + 2),
    "ended": st.lists(st.booleans(), min_size=SIZE, max_size=SIZE),
    "place": st.integers(0, SIZE - 1),
}
# An example is an update or two, so a failing one is reported as it was found: to shrink it would take minutes.
LOW = [-3.0 - number / 8 for number in range(SIZE + 2)]
"""Scores below the constant of N+, the last one lowest."""
few = settings(max_examples=6, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])


def with_end(ended, place, end):
    """Return the same, with one response ended or cut off."""
    return [end if number == place else other for number, other in enumerate(ended)]


def rank(standing, place):
    """Return how many of the others are worse off."""
    worth = standing.worth.sum(1)
    return int((worth < worth[place]).sum())


def assert_no_better_off(cut, whole, place):
    assert cut.score <= whole.score + ROUNDING
    assert (cut.worth[place] <= whole.worth[place] + ROUNDING).all()
    assert rank(cut, place) <= rank(whole, place)
    assert place in whole.imitated or place not in cut.imitated


@few
@given(**cases, penalty=st.sampled_from([0.0, 0.5, 1.0, 20.0]))
@example(scores=LOW, ended=[True] * SIZE, place=SIZE - 1, penalty=1.0)
@pytest.mark.parametrize("algorithm", PENALISED, **by_name)
def test_a_response_is_never_better_off_for_not_ending(algorithm, scores, ended, place, penalty):
    whole, cut = (
        algorithm(Told(scores, with_end(ended, place, end)), missing_eos_penalty=penalty) for end in (True, False)
    )
    assert_no_better_off(cut, whole, place)


@few
@given(**cases)
@pytest.mark.parametrize("algorithm", IMITATING, **by_name)
def test_a_response_that_did_not_end_is_never_imitated_and_ranks_no_better_for_it(algorithm, scores, ended, place):
    whole, cut = (algorithm(Told(scores, with_end(ended, place, end))) for end in (True, False))
    assert_no_better_off(cut, whole, place)
    for standing, end in ((whole, True), (cut, False)):
        ends = with_end(ended, place, end)
        assert all(ends[one] for one in standing.imitated if one >= 0)


@few
@given(eighths=st.lists(st.integers(-40, 40), min_size=SIZE, max_size=SIZE))
@pytest.mark.parametrize("algorithm", GROUPED, **by_name)
def test_where_all_of_a_group_were_cut_off_they_are_compared_as_if_all_had_ended(algorithm, eighths):
    scores = [number / 8 for number in eighths]  # from which 1 can be subtracted exactly
    whole, cut = (algorithm(Told(scores, [end] * SIZE)).worth for end in (True, False))
    torch.testing.assert_close(cut, whole, atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("algorithm", PENALISED, **by_name)
def test_where_a_constant_is_given_instead_not_ending_can_pay(algorithm):
    whole, cut = (
        algorithm(Told(LOW, with_end([True] * SIZE, SIZE - 1, end)), missing_eos_score=-1.0) for end in (True, False)
    )
    assert rank(cut, SIZE - 1) > rank(whole, SIZE - 1)


@pytest.mark.parametrize("config", [*CONFIGS, DAPOConfig])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"missing_eos_penalty": -0.5}, r"missing_eos_penalty=-0\.5 must be a finite number, 0 or more"),
        ({"missing_eos_penalty": float("inf")}, "missing_eos_penalty=inf must be a finite number"),
        ({"missing_eos_penalty": float("nan")}, "missing_eos_penalty=nan must be a finite number"),
        ({"missing_eos_score": float("-inf")}, "missing_eos_score=-inf must be a finite number, or None"),
    ],
)
def test_a_price_of_not_ending_that_is_none_is_refused(config, settings, message):
    with pytest.raises(ValueError, match=message):
        config(**settings)


@pytest.mark.parametrize("config", CONFIGS)
def test_a_constant_goes_before_a_penalty_and_0_is_a_penalty(config):
    scores, ended = torch.tensor([2.0, 3.0]), torch.tensor([True, False])
    assert ending_rule(config())(scores, ended).tolist() == [2.0, 2.0]
    assert ending_rule(config(missing_eos_penalty=0.0))(scores, ended).tolist() == [2.0, 3.0]
    assert ending_rule(config(missing_eos_score=0.5))(scores, ended).tolist() == [2.0, 0.5]
