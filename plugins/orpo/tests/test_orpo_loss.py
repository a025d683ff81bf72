"""The formulas of ORPO against hand-worked numbers, laws and a problem with a closed-form solution."""

import math

import pytest
import torch
from torch.testing import assert_close
from zoo_orpo.loss import log_odds, odds_ratio_loss

from zoo_core.functional import masked_sum
from zoo_core.testing.tensors import GARBAGE, noise, prefix


def below_0(count, seed=0):
    """Return likelihoods per token on both sides of −ln 2, in nats."""
    return -noise(count, seed=seed).abs() - 0.05


def test_the_worked_example():
    # −.5 − log(1 − e^−.5) = −.5 + .932752; −1 − log(1 − e^−1) = −1 + .458675; their difference .974077, −log σ of it
    assert_close(log_odds(torch.tensor([-0.5, -1.0])), torch.tensor([0.43275213, -0.54132485]))
    assert_close(odds_ratio_loss(torch.tensor([-0.5]), torch.tensor([-1.0])), torch.tensor(0.32030001))


def test_responses_that_are_equally_likely_cost_log_2():
    logprob = below_0(5)
    assert_close(odds_ratio_loss(logprob, logprob), torch.tensor(math.log(2)))


def test_odds_are_those_of_the_likelihood():
    # odds 1 at 1/2, 3 at 3/4, 1/9 at 1/10
    probability = torch.tensor([0.5, 0.75, 0.1])
    assert_close(log_odds(probability.log()), torch.tensor([0.0, math.log(3), -math.log(9)]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("logprob", [-1e-6, -1e-3, -0.6931, -0.6932, -20.0, -200.0])
def test_odds_in_single_precision_are_those_in_double_precision_down_to_both_ends(logprob):
    single = torch.tensor([logprob], requires_grad=True)
    double = single.detach().double().requires_grad_()
    # log(1 − eᵃ) written down as it stands; in double precision 16 digits are enough for these
    slow = double - torch.log1p(-torch.exp(double))
    fast = log_odds(single)
    assert_close(fast.detach().double(), slow.detach(), rtol=1e-5, atol=1e-5)
    (slope,), (expected,) = torch.autograd.grad(fast.sum(), single), torch.autograd.grad(slow.sum(), double)
    assert_close(slope.double(), expected, rtol=1e-5, atol=1e-5)


def test_a_response_that_is_certain_has_finite_odds_and_no_gradient():
    logprob = torch.tensor([0.0, -0.5], requires_grad=True)
    odds = log_odds(logprob)
    odds.sum().backward()
    # −log(10⁻⁷) = 16.118096
    assert_close(odds[0].detach(), torch.tensor(16.118096), atol=1e-4, rtol=0)
    assert logprob.grad[0].item() == 0.0
    # 1/(1 − e^−.5)
    assert_close(logprob.grad[1], torch.tensor(2.5414941))


def test_swapping_chosen_and_rejected_negates_the_log_odds_ratio():
    chosen, rejected = below_0(8), below_0(8, seed=1)
    gap = odds_ratio_loss(rejected, chosen) - odds_ratio_loss(chosen, rejected)
    assert_close(gap, (log_odds(chosen) - log_odds(rejected)).mean())


def test_a_batch_is_the_mean_of_its_pairs():
    chosen, rejected = below_0(6), below_0(6, seed=1)
    pairs = [odds_ratio_loss(chosen[i : i + 1], rejected[i : i + 1]) for i in range(6)]
    assert_close(torch.stack(pairs).mean(), odds_ratio_loss(chosen, rejected))


def test_the_slope_is_that_of_finite_differences():
    pair = [below_0(6, seed=seed).double().requires_grad_() for seed in range(2)]
    assert torch.autograd.gradcheck(odds_ratio_loss, pair)


@pytest.mark.parametrize("garbage", GARBAGE)
def test_padding_changes_neither_the_loss_nor_the_gradient_of_means(garbage):
    mask = prefix(3, 1, 2, 3, of=3)
    clean = (-noise(4, 3).abs() - 0.05).requires_grad_()
    dirty = clean.detach().masked_fill(~mask, garbage).requires_grad_()
    losses = [odds_ratio_loss(*(masked_sum(x, mask) / mask.sum(1)).chunk(2)) for x in (clean, dirty)]
    sum(losses).backward()
    assert_close(losses[1], losses[0])
    assert_close(dirty.grad, clean.grad)


@pytest.mark.parametrize(("share", "optimum"), [(0.8, 2 / 3), (0.9, 0.75), (0.5, 0.5)])
def test_on_a_bandit_with_two_arms_it_reaches_the_square_root_of_the_odds_of_the_labels(share, optimum):
    # The log odds of two arms are x and −x, so the label's odds are e^(2x): π(1)/π(0) = √(p/(1 − p)), 2 at .8, 3 at .9
    logits = torch.tensor([1.0, -1.0], dtype=torch.double, requires_grad=True)
    for _ in range(2000):
        logprobs = logits.log_softmax(-1)
        wins, fails = odds_ratio_loss(logprobs[[1]], logprobs[[0]]), odds_ratio_loss(logprobs[[0]], logprobs[[1]])
        (slope,) = torch.autograd.grad(share * wins + (1 - share) * fails, logits)
        logits.data -= 0.2 * slope
    assert logits.detach().softmax(-1)[1].item() == pytest.approx(optimum, abs=1e-5)
