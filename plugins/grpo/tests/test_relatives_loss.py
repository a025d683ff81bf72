"""The formulas of GRPO's relatives against hand-worked numbers, laws and GRPO itself."""

import math

import pytest
import torch
from torch.testing import assert_close
from zoo_grpo.dapo import has_spread, overlong_penalties, rows_to_learn_from
from zoo_grpo.groups import outside_fraction
from zoo_grpo.loss import (
    capped_reinforce,
    clip_higher_surrogate,
    clipped_surrogate,
    dapo,
    grpo,
    gspo_loss,
    sequence_ratio,
)

from zoo_core.testing.tensors import GARBAGE, noise, prefix, row

# DAPO


@pytest.mark.parametrize(
    ("advantage", "ratio", "loss", "slope"),
    [  # −min(ρA, clip(ρ, .8, 1.28)A); the slope is by log π, so −ρA where it is not clipped
        (1.0, 0.7, -0.7, -0.7),
        (1.0, 1.25, -1.25, -1.25),
        (1.0, 1.3, -1.28, 0.0),
        (-1.0, 0.7, 0.8, 0.0),
        (-1.0, 0.9, 0.9, 0.9),
        (-1.0, 1.3, 1.3, 1.3),
    ],
)
def test_clip_higher_follows_the_worked_table(advantage, ratio, loss, slope):
    old = row(-1.5)
    logprobs = (old + math.log(ratio)).requires_grad_()
    actual = clip_higher_surrogate(logprobs, old, torch.tensor([advantage]), prefix(1, of=1), 0.2, 0.28)
    actual.sum().backward()
    assert_close(actual, row(loss))
    assert_close(logprobs.grad, row(slope))


def test_with_equal_ranges_clip_higher_is_the_surrogate_of_grpo_to_the_bit():
    logprobs, old, advantages, mask = noise(4, 5), noise(4, 5, seed=1), noise(4, seed=2), prefix(5, 3, 1, 4, of=5)
    actual = clip_higher_surrogate(logprobs, old, advantages, mask, 0.2, 0.2)
    assert torch.equal(actual, clipped_surrogate(logprobs, old, advantages, mask, 0.2))


def test_overlong_penalties_of_the_worked_example():
    # L = 20, C = .2·20 = 4: free up to 16 tokens, −1/4 a token from there, −1 at 20; −.5 in the middle
    actual = overlong_penalties(torch.tensor([1, 16, 17, 18, 20]), 20, 0.2)
    assert_close(actual, torch.tensor([0.0, 0.0, -0.25, -0.5, -1.0]))


def test_overlong_penalties_of_the_paper():
    # 20,480 tokens, 4,096 of them the buffer
    actual = overlong_penalties(torch.tensor([16384, 18432, 20480]), 20480, 0.2)
    assert_close(actual, torch.tensor([0.0, -0.5, -1.0]), atol=1e-6, rtol=0)


def test_a_group_has_spread_if_one_of_its_scores_differs():
    scores = torch.tensor([1.0, 1.0, 0.0, 1.0, -2.0, -2.0])
    assert has_spread(scores, 2).tolist() == [False, True, False]
    assert has_spread(scores, 3).tolist() == [True, True]


def test_groups_with_spread_come_first_in_the_order_of_sampling_and_others_fill_up():
    scores = torch.tensor([1.0, 1.0, 0.0, 1.0, 2.0, 2.0, 3.0, 4.0, 5.0, 6.0])  # spread in groups 1, 3 and 4
    assert rows_to_learn_from(scores, 2, 2).tolist() == [2, 3, 6, 7]
    assert rows_to_learn_from(scores, 2, 3).tolist() == [2, 3, 6, 7, 8, 9]
    assert rows_to_learn_from(scores, 2, 4).tolist() == [2, 3, 6, 7, 8, 9, 0, 1]


# GSPO


def test_the_ratio_of_a_response_is_the_geometric_mean_of_its_tokens():
    # ρ = 2 and .5·4 over two tokens: √(2·8) = 4 with ρ = (2, 8), and 3 with one token of ρ = 3
    old = torch.zeros(2, 2)
    logprobs = torch.tensor([[2.0, 8.0], [3.0, 100.0]]).log()
    assert_close(sequence_ratio(logprobs, old, prefix(2, 1, of=2)), torch.tensor([4.0, 3.0]))


def test_saying_every_token_twice_leaves_the_ratio_unchanged():
    logprobs, old, mask = noise(3, 4), noise(3, 4, seed=1), prefix(4, 2, 1, of=4)
    twice = [x.repeat_interleave(2, 1) for x in (logprobs, old, mask)]
    assert_close(sequence_ratio(*twice), sequence_ratio(logprobs, old, mask))


@pytest.mark.parametrize(
    ("advantage", "ratio", "loss", "slope"),
    [  # −min(sA, clip(s, .9, 1.2)A), by log π of each of two tokens: −sA/2 where it is not clipped
        (2.0, 0.8, -1.6, -0.8),
        (2.0, 1.1, -2.2, -1.1),
        (2.0, 1.5, -2.4, 0.0),
        (-2.0, 0.8, 1.8, 0.0),
        (-2.0, 1.0, 2.0, 1.0),
        (-2.0, 1.5, 3.0, 1.5),
    ],
)
def test_gspo_follows_the_worked_table(advantage, ratio, loss, slope):
    logprobs = row(math.log(ratio) + 1.0, math.log(ratio) - 1.0).requires_grad_()  # their mean is log s
    actual = gspo_loss(sequence_ratio(logprobs, row(0.0, 0.0), prefix(2, of=2)), torch.tensor([advantage]), 0.1, 0.2)
    actual.backward()
    assert_close(actual, torch.tensor(loss))
    assert_close(logprobs.grad, row(slope, slope))


def test_gspo_is_the_mean_of_its_responses():
    # −min(1.5·1, 1.04) = −1.04 and −min(1·(−3), −3) = 3: their mean is .98
    actual = gspo_loss(torch.tensor([1.5, 1.0]), torch.tensor([1.0, -3.0]), 0.03, 0.04)
    assert_close(actual, torch.tensor(0.98))


def test_a_response_of_one_token_is_clipped_as_in_grpo():
    logprobs, old, advantages, mask = noise(6, 1), noise(6, 1, seed=1), noise(6, seed=2), prefix(*[1] * 6, of=1)
    theirs = grpo(clipped_surrogate(logprobs, old, advantages, mask, 0.2), mask, 1)
    assert_close(gspo_loss(sequence_ratio(logprobs, old, mask), advantages, 0.2, 0.2), theirs)


# CISPO


@pytest.mark.parametrize(
    ("advantage", "ratio", "slope"),
    [(1.0, 0.1, -0.1), (1.0, 3.0, -3.0), (1.0, 8.0, -5.0), (-2.0, 3.0, 6.0), (-2.0, 8.0, 10.0)],
)
def test_a_token_pulls_with_its_ratio_up_to_the_cap_and_never_with_nothing(advantage, ratio, slope):
    old = row(-4.0)
    logprobs = (old + math.log(ratio)).requires_grad_()
    loss = capped_reinforce(logprobs, old, torch.tensor([advantage]), prefix(1, of=1), weight_cap=5.0)
    loss.sum().backward()
    assert_close(logprobs.grad, row(slope))
    assert_close(loss.detach(), row(slope) * logprobs.detach())


# All of them


def gspo(logprobs, old, advantages, mask):
    return gspo_loss(sequence_ratio(logprobs, old, mask), advantages, 0.03, 0.04)


def cispo(logprobs, old, advantages, mask):
    return dapo(capped_reinforce(logprobs, old, advantages, mask, 5.0), mask, 1)


def clip_higher(logprobs, old, advantages, mask):
    return dapo(clip_higher_surrogate(logprobs, old, advantages, mask, 0.2, 0.28), mask, 1)


each_loss = pytest.mark.parametrize("loss_of", [gspo, cispo, clip_higher], ids=lambda function: function.__name__)


@pytest.mark.parametrize(("loss_of", "aggregate"), [(gspo, grpo), (cispo, dapo), (clip_higher, dapo)])
def test_on_what_was_just_sampled_the_gradient_is_that_of_grpo_with_its_aggregation(loss_of, aggregate):
    old, advantages, mask = noise(3, 4), noise(3, seed=1), prefix(4, 2, 1, of=4)
    ours, theirs = (old.clone().requires_grad_() for _ in range(2))
    loss_of(ours, old, advantages, mask).backward()
    aggregate(clipped_surrogate(theirs, old, advantages, mask, 0.2), mask, 1).backward()
    assert_close(ours.grad, theirs.grad)
    assert theirs.grad.abs().max() > 0.05


@each_loss
@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("place", [0, 1])
def test_what_lies_off_the_mask_changes_no_loss_and_no_gradient(place, garbage, loss_of):
    mask, advantages = prefix(4, 2, 1, of=4), noise(3, seed=9)
    old = noise(3, 4)
    clean = [old + 0.01 * noise(3, 4, seed=1), old]
    dirty = [x.masked_fill(~mask, garbage) if i == place else x for i, x in enumerate(clean)]

    def value_and_gradient(tensors):
        first = tensors[0].clone().requires_grad_()
        value = loss_of(first, tensors[1], advantages, mask)
        value.backward()
        return value.detach(), first.grad

    expected, actual = value_and_gradient(clean), value_and_gradient(dirty)
    assert_close(actual, expected)
    assert not actual[1][~mask].any()


@pytest.mark.parametrize("loss_of", [gspo, clip_higher], ids=lambda function: function.__name__)
def test_the_slope_is_that_of_finite_differences(loss_of):
    old, advantages, mask = noise(4, 3).double(), noise(4, seed=3).double(), prefix(1, 2, 3, 3, of=3)
    new = (old + 0.01 * noise(4, 3, seed=2)).requires_grad_()  # inside the clip ranges, where losses are smooth
    assert torch.autograd.gradcheck(lambda x: loss_of(x, old, advantages, mask), new)


def test_a_token_outside_of_the_mask_costs_nothing_in_cispo():
    logprobs, old = torch.full((2, 3), -1.0), torch.full((2, 3), -2.0)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    losses = capped_reinforce(logprobs, old, torch.tensor([0.5, -2.0]), mask, weight_cap=1.5)
    # min(e, 1.5) · 1 · Â, Â 0.5 and -2
    torch.testing.assert_close(losses, torch.tensor([[0.75, 0.75, 0.0], [-3.0, 0.0, 0.0]]))


def test_the_slope_of_cispo_is_that_of_finite_differences_of_log_probabilities_with_fixed_weights():
    old, advantages, mask = noise(4, 3).double(), noise(4, seed=3).double(), prefix(1, 2, 3, 3, of=3)
    new = (old + noise(4, 3, seed=2)).requires_grad_()
    weights = (new - old).detach().exp().clamp(max=1.5) * advantages.unsqueeze(1)

    def fixed(x):
        return -(weights * x)[mask].sum() / mask.sum()

    assert torch.autograd.gradcheck(fixed, new)
    (expected,) = torch.autograd.grad(fixed(new), new)
    ours = dapo(capped_reinforce(new, old, advantages, mask, 1.5), mask, 1)
    assert_close(torch.autograd.grad(ours, new)[0], expected)
    assert ((new - old).exp()[mask] > 1.5).any()


def test_what_lies_outside_is_counted_on_both_sides_and_under_the_mask_alone():
    ratio = torch.tensor([[0.7, 1.0, 1.29, math.nan], [0.8, 1.28, 9.0, 9.0]])
    # .7 and 1.29 of five true ones lie outside of [.8, 1.28]; the bounds themselves do not
    bounds = (torch.tensor(0.8).item(), torch.tensor(1.28).item())
    assert_close(outside_fraction(ratio, prefix(3, 2, of=4), *bounds), torch.tensor(0.4))
