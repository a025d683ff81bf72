"""Losses of GKD against numbers worked out by hand, limits, symmetry, and a slow oracle."""

import math

import pytest
import torch
from torch.nn.functional import kl_div
from zoo_gkd.loss import divergence, generalized_divergence, gkd_loss

from zoo_core.testing.tensors import noise


def logs(*shares):
    return torch.tensor(shares, dtype=torch.float64).log()


def random_logprobs(seed, rows=4, tokens=7):
    return noise(rows, tokens, seed=seed).double().log_softmax(-1)


def test_one_divergence_worked_out_by_hand():
    # p_S = (1/2, 1/2), p_T = (3/4, 1/4), β = 1/2: m = (5/8, 3/8).
    # KL(p_T ‖ m) = 3/4 ln(6/5) + 1/4 ln(2/3), KL(p_S ‖ m) = 1/2 ln(4/5) + 1/2 ln(4/3).
    policy, teacher = logs(0.5, 0.5), logs(0.75, 0.25)
    of_teacher = 0.75 * math.log(6 / 5) + 0.25 * math.log(2 / 3)
    of_policy = 0.5 * math.log(4 / 5) + 0.5 * math.log(4 / 3)
    assert generalized_divergence(policy, teacher, 0.5).item() == pytest.approx((of_teacher + of_policy) / 2, rel=1e-12)
    # β = 1/4: m = 1/4 p_T + 3/4 p_S = (9/16, 7/16).
    of_teacher = 0.75 * math.log(12 / 9) + 0.25 * math.log(4 / 7)
    of_policy = 0.5 * math.log(8 / 9) + 0.5 * math.log(8 / 7)
    expected = 0.25 * of_teacher + 0.75 * of_policy
    assert generalized_divergence(policy, teacher, 0.25).item() == pytest.approx(expected, rel=1e-12)


def test_beta_0_is_the_kl_of_the_teacher_and_beta_1_that_of_the_policy():
    policy, teacher = random_logprobs(0), random_logprobs(1)
    forward = kl_div(policy, teacher, log_target=True, reduction="none").sum(-1)
    backward = kl_div(teacher, policy, log_target=True, reduction="none").sum(-1)
    torch.testing.assert_close(generalized_divergence(policy, teacher, 0.0), forward)
    torch.testing.assert_close(generalized_divergence(policy, teacher, 1.0), backward)
    assert not torch.allclose(forward, backward)


@pytest.mark.parametrize(("beta", "limit"), [(1e-6, 0.0), (1 - 1e-6, 1.0)])
def test_both_ends_are_the_limits_of_the_divergence_over_beta_times_one_less_beta(beta, limit):
    policy, teacher = random_logprobs(2), random_logprobs(3)
    near = generalized_divergence(policy, teacher, beta) / (beta * (1 - beta))
    torch.testing.assert_close(near, generalized_divergence(policy, teacher, limit), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_a_teacher_that_is_the_policy_costs_nothing_and_moves_nothing(beta):
    policy = random_logprobs(4).requires_grad_()
    loss = generalized_divergence(policy, policy.detach(), beta)
    loss.sum().backward()
    torch.testing.assert_close(loss.detach(), torch.zeros_like(loss), atol=1e-12, rtol=0)
    # The gradient by log-probabilities is a multiple of p: that by logits, from which Σp = 1 is taken, is zero.
    by_logits = policy.grad - policy.detach().exp() * policy.grad.sum(-1, keepdim=True)
    torch.testing.assert_close(by_logits, torch.zeros_like(by_logits), atol=1e-12, rtol=0)


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_it_is_positive_and_at_most_the_entropy_of_the_mixing(beta):
    policy, teacher = random_logprobs(5, rows=200) * 3, random_logprobs(6, rows=200) * 3
    found = generalized_divergence(policy.log_softmax(-1), teacher.log_softmax(-1), beta)
    most = -beta * math.log(beta) - (1 - beta) * math.log(1 - beta)  # ln 2 at one half
    assert (found > 0).all()
    assert (found <= most).all()


def test_at_one_half_it_is_the_same_both_ways():
    policy, teacher = random_logprobs(7), random_logprobs(8)
    one, other = (generalized_divergence(*pair, 0.5) for pair in ((policy, teacher), (teacher, policy)))
    torch.testing.assert_close(one, other)


def test_tokens_that_one_of_both_rules_out_cost_a_finite_number():
    policy, teacher = logs(0.5, 0.5 - 1e-30, 1e-30), logs(1e-30, 0.5, 0.5 - 1e-30)
    assert generalized_divergence(policy, teacher, 0.5).isfinite()


def test_a_divergence_worked_out_by_hand():
    # KL((1/2, 1/2) ‖ (1/4, 3/4)) = 1/2 ln 2 + 1/2 ln(2/3)
    expected = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    assert divergence(logs(0.5, 0.5), logs(0.25, 0.75)).item() == pytest.approx(expected, rel=1e-12)


def test_the_loss_is_the_mean_over_true_tokens_and_not_over_responses():
    values = torch.tensor([[1.0, 2.0, 6.0], [5.0, 9.0, 9.0]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    assert gkd_loss(values, mask).item() == pytest.approx(14 / 4)  # (1 + 2 + 6 + 5) / 4, not (3 + 5) / 2
