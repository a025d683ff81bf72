"""The formulas of learning from AI feedback against hand-worked numbers and laws."""

import math

import pytest
import torch
from torch.testing import assert_close
from zoo_reward_model.loss import soft_label_loss
from zoo_rlaif.loss import (
    clamped_preference,
    debiased_preference,
    expected_rating,
    regularised_return,
    reinforce_loss,
    value_loss,
)

from zoo_core.testing.tensors import noise

MASK = torch.tensor([[True, True, True], [True, False, False]])


def logs(*probabilities):
    return torch.tensor(probabilities).log()


def test_a_preference_is_the_mean_over_both_orders():
    # The first is preferred with .8 when shown first, and with .4 when shown second: (.8 + .4) / 2.
    # Only ratios count: the judge's .2 and .05 are .8 and .2 of the answers it was offered.
    shown, swapped = logs([0.8, 0.2], [0.2, 0.05]), logs([0.6, 0.4], [0.6, 0.4])
    assert_close(debiased_preference(shown, swapped), torch.tensor([0.6, 0.6]))


def test_swapping_the_responses_turns_the_preference_to_its_complement():
    shown, swapped = noise(8, 2), noise(8, 2, seed=1)
    assert_close(debiased_preference(swapped, shown), 1 - debiased_preference(shown, swapped))


def test_a_judge_that_goes_by_position_alone_prefers_neither():
    positional = logs([0.9, 0.1], [0.2, 0.8])
    assert_close(debiased_preference(positional, positional), torch.tensor([0.5, 0.5]))


def test_a_clamped_preference_is_as_near_to_certainty_as_the_bounds_and_no_nearer():
    preferences = torch.tensor([0.97, 0.6, 0.45, 0.4, 0.01])
    clamped = clamped_preference(preferences, 0.4, 0.6)
    assert_close(clamped, torch.tensor([0.6, 0.6, 0.45, 0.4, 0.4]))
    assert_close(clamped_preference(clamped, 0.4, 0.6), clamped)


def test_clamping_keeps_the_order_of_preferences():
    preferences = noise(32).sigmoid().sort().values
    assert (clamped_preference(preferences, 0.4, 0.6).diff() >= 0).all()


def test_a_reward_model_fitted_to_a_clamped_label_stops_at_the_log_odds_of_the_bound():
    labels = clamped_preference(torch.tensor([0.97, 0.03]), 0.4, 0.6)
    gap = torch.tensor([0.4054651, -0.4054651], requires_grad=True)  # log(.6/.4)
    (slope,) = torch.autograd.grad(soft_label_loss(gap, torch.zeros(2), labels), gap)
    assert_close(slope, torch.zeros(2), atol=1e-7, rtol=0)


def test_the_rating_of_the_worked_example():
    # Half on 7, .3 on 8, .2 on 9: s = 3.5 + 2.4 + 1.8 = 7.7, and (7.7 − 5.5)/4.5 = .488889.
    answers = torch.full((1, 10), -math.inf)
    answers[0, 6:9] = logs(0.5, 0.3, 0.2)
    assert_close(expected_rating(answers), torch.tensor([0.4888889]))


def test_of_two_answers_the_rating_is_the_difference_of_their_probabilities():
    # s = .3 + 2·.7 = 1.7; (1.7 − 1.5)/.5 = .4. Common factors of the judge's probabilities cancel.
    assert_close(expected_rating(logs([0.3, 0.7], [0.03, 0.07])), torch.tensor([0.4, 0.4]))


@pytest.mark.parametrize("levels", [2, 3, 10])
def test_ratings_go_from_minus_one_to_one_and_a_judge_without_an_opinion_gives_zero(levels):
    certain = torch.full((levels, levels), -1e9).fill_diagonal_(0.0)
    ratings = expected_rating(certain)
    assert_close(ratings[[0, -1]], torch.tensor([-1.0, 1.0]))
    assert_close(ratings.diff(), torch.full((levels - 1,), 2 / (levels - 1)))
    assert_close(expected_rating(torch.full((1, levels), -3.0)), torch.zeros(1))


def test_the_return_mixes_score_and_divergence():
    # β = .2: .8·2 − .2·(.5 + 1 − .25) = 1.35 and .8·(−1) − .2·.5 = −.9
    log_ratio = torch.tensor([[0.5, 1.0, -0.25], [0.5, 7.0, 7.0]])
    actual = regularised_return(torch.tensor([2.0, -1.0]), log_ratio, MASK, 0.2)
    assert_close(actual, torch.tensor([1.35, -0.9]))


def test_a_policy_that_is_the_reference_is_returned_its_weighted_score():
    scores = noise(2)
    assert_close(regularised_return(scores, torch.zeros(2, 3), MASK, 0.05), 0.95 * scores)


def test_reinforce_loss_of_a_worked_example_is_summed_over_tokens_and_averaged_over_responses():
    # Returns 2 and −1, values 0.5 and 1: advantages 1.5 and −2.
    # −[1.5·(−1 − 2 − 3) + (−2)·(−4)] / 2 = −(−9 + 8)/2
    logprobs = torch.tensor([[-1.0, -2.0, -3.0], [-4.0, -9.0, -9.0]])
    values = torch.tensor([[0.5, 0.5, 0.5], [1.0, 9.0, 9.0]])
    assert_close(reinforce_loss(logprobs, values, torch.tensor([2.0, -1.0]), MASK), torch.tensor(0.5))


def test_the_gradient_of_reinforce_is_the_advantage_of_each_true_token_and_none_reaches_the_baseline():
    logprobs, values = noise(2, 3).requires_grad_(), noise(2, 3, seed=1).requires_grad_()
    returns = torch.tensor([2.0, -1.0])
    reinforce_loss(logprobs, values, returns, MASK).backward()
    expected = -(returns.unsqueeze(1) - values.detach()) * MASK / 2
    assert_close(logprobs.grad, expected)
    assert values.grad is None


def test_by_enumeration_reinforce_is_unbiased_whatever_the_baseline():
    theta = torch.tensor([0.2, -0.1, 0.4], requires_grad=True)
    rewards, chances = torch.tensor([1.0, 0.0, 3.0]), theta.detach().softmax(0)
    (exact,) = torch.autograd.grad(-(theta.softmax(0) * rewards).sum(), theta)
    assert_close(-exact, torch.tensor([-0.193964, -0.393781, 0.587745]), atol=1e-6, rtol=0)
    for baseline in (0.0, 1.7):
        expected = torch.zeros(3)
        for arm in range(3):
            logprobs = theta.log_softmax(0)[arm].reshape(1, 1)
            loss = reinforce_loss(logprobs, torch.full((1, 1), baseline), rewards[arm : arm + 1], MASK[:1, :1])
            expected += chances[arm] * torch.autograd.grad(loss, theta)[0]
        assert_close(expected, exact)


def test_value_loss_is_the_mean_squared_error_over_tokens():
    # Errors 1.5, 1, 0 and −2: (2.25 + 1 + 0 + 4) / 4
    values = torch.tensor([[0.5, 1.0, 2.0], [1.0, 50.0, 50.0]])
    assert_close(value_loss(values, torch.tensor([2.0, -1.0]), MASK), torch.tensor(1.8125))


@pytest.mark.parametrize("garbage", [1e6, math.inf, -math.inf, math.nan])
def test_what_lies_off_the_mask_changes_neither_losses_nor_gradients(garbage):
    def results(fill):
        logprobs, values = (noise(2, 3, seed=s).masked_fill(~MASK, fill).requires_grad_() for s in (0, 1))
        log_ratio = noise(2, 3, seed=2).masked_fill(~MASK, fill)
        returns = regularised_return(noise(2, seed=3), log_ratio, MASK, 0.1)
        losses = reinforce_loss(logprobs, values, returns, MASK), value_loss(values, returns, MASK)
        sum(losses).backward()
        return [returns, *losses, logprobs.grad, values.grad]

    for dirty, clean in zip(results(garbage), results(0.0), strict=True):
        assert_close(dirty, clean)
