"""The formulas of GRPO against hand-worked numbers, laws and problems with a known solution."""

import itertools
import math

import pytest
import torch
from torch.testing import assert_close
from zoo_grpo.loss import (
    centred_advantages,
    clipped_surrogate,
    dapo,
    dr_grpo,
    grpo,
    kl_penalty,
    scaled_advantages,
    unbiased_kl_penalty,
    zero_spread_fraction,
)

from zoo_core.testing.tensors import GARBAGE, noise, prefix, row

AGGREGATIONS = [grpo, dapo, dr_grpo]
WORKED = torch.tensor([2.0, 0.5, 1.5, -0.5])
"""Scores of one group: mean .875, squares of the deviations 3.6875."""

each_divergence = pytest.mark.parametrize(
    "divergence_of", [kl_penalty, unbiased_kl_penalty], ids=lambda function: function.__name__
)
each_aggregation = pytest.mark.parametrize("aggregate", AGGREGATIONS, ids=lambda function: function.__name__)


# Advantages


def test_scaled_advantages_of_the_worked_example():
    # std = √(3.6875/3) = 1.108678
    actual = scaled_advantages(WORKED, group_size=4)
    assert_close(actual, torch.tensor([1.014631, -0.338210, 0.563684, -1.240104]), atol=1e-6, rtol=0)


def test_with_the_deviation_of_the_population_they_would_all_be_larger_by_one_factor():
    # √(3.6875/4) = .960143; √(4/3) between the two conventions, up to the 10⁻⁴
    population = torch.tensor([1.171700, -0.390567, 0.650945, -1.432078])
    assert_close(scaled_advantages(WORKED, group_size=4) * math.sqrt(4 / 3), population, atol=2e-4, rtol=0)


def test_centred_advantages_of_the_worked_example():
    assert_close(centred_advantages(WORKED, group_size=4), torch.tensor([1.125, -0.375, 0.625, -1.375]))


def test_each_group_is_compared_within_itself():
    scores = torch.tensor([3.0, 1.0, 100.0, 108.0])
    assert centred_advantages(scores, 2).tolist() == [1.0, -1.0, -4.0, 4.0]
    # Deviations √2 and √32: both groups end at ∓1/√2.
    assert_close(scaled_advantages(scores, 2), torch.tensor([1.0, -1.0, -1.0, 1.0]) / 2**0.5, atol=1e-4, rtol=0)


@pytest.mark.parametrize("advantages_of", [centred_advantages, scaled_advantages])
def test_advantages_of_a_group_sum_to_0(advantages_of):
    assert_close(advantages_of(noise(12), 4).view(3, 4).sum(1), torch.zeros(3))


def test_scaled_advantages_do_not_change_with_the_scale_and_offset_of_rewards():
    scores = noise(12)
    assert_close(scaled_advantages(5.0 * scores - 3.0, 4), scaled_advantages(scores, 4), atol=1e-3, rtol=0)
    assert_close(centred_advantages(5.0 * scores - 3.0, 4), 5.0 * centred_advantages(scores, 4))


def test_scaled_advantages_have_deviation_1():
    deviations = scaled_advantages(noise(12), 4).view(3, 4).std(1)
    assert_close(deviations, torch.ones(3), atol=1e-3, rtol=0)


@pytest.mark.parametrize("advantages_of", [centred_advantages, scaled_advantages])
def test_a_group_of_equal_scores_has_no_advantage(advantages_of):
    assert advantages_of(torch.full((4,), 0.75), 4).tolist() == [0.0] * 4


def test_the_own_score_in_the_baseline_costs_a_share_of_the_expected_gradient_by_enumeration():
    # Softmax over three arms, G = 2: half of the exact gradient π (r − E[r]).
    logits = torch.tensor([0.2, -0.1, 0.4], dtype=torch.double).requires_grad_()
    rewards, expected = torch.tensor([1.0, 0.0, 3.0], dtype=torch.double), torch.zeros(3, dtype=torch.double)
    for pair in itertools.product(range(3), repeat=2):
        arms = torch.tensor(pair)
        logprobs, mask = logits.log_softmax(-1)[arms].unsqueeze(1), prefix(1, 1, of=1)
        advantages = centred_advantages(rewards[arms], group_size=2)
        loss = grpo(clipped_surrogate(logprobs, logprobs.detach(), advantages, mask, 0.2), mask, response_tokens=1)
        (slope,) = torch.autograd.grad(loss, logits)
        expected -= logprobs.sum().exp().detach() * slope
    exact = torch.tensor([-0.193964, -0.393781, 0.587745], dtype=torch.double)
    assert_close(expected, exact / 2, atol=1e-6, rtol=0)


def test_zero_spread_counts_groups_of_equal_scores():
    scores = torch.tensor([1.0, 1.0, 0.0, 1.0, -2.0, -2.0, 3.0, 3.5])
    assert_close(zero_spread_fraction(scores, 2), torch.tensor(0.5))
    assert_close(zero_spread_fraction(scores, 4), torch.tensor(0.0))


# Policy loss


@pytest.mark.parametrize(
    ("advantage", "ratio", "loss", "slope"),
    [  # −min(ρA, clip(ρ, .8, 1.2)A); the slope is by log π, so −ρA where it is not clipped
        (1.0, 0.7, -0.7, -0.7),
        (1.0, 1.0, -1.0, -1.0),
        (1.0, 1.3, -1.2, 0.0),
        (-1.0, 0.7, 0.8, 0.0),
        (-1.0, 1.0, 1.0, 1.0),
        (-1.0, 1.3, 1.3, 1.3),
    ],
)
def test_surrogate_follows_the_worked_table(advantage, ratio, loss, slope):
    old = row(-1.5)
    logprobs = (old + math.log(ratio)).requires_grad_()
    actual = clipped_surrogate(logprobs, old, torch.tensor([advantage]), prefix(1, of=1), clip_range=0.2)
    actual.sum().backward()
    assert_close(actual, row(loss))
    assert_close(logprobs.grad, row(slope))


def test_every_token_of_a_response_has_its_advantage():
    logprobs, mask = noise(2, 3), prefix(3, 2, of=3)
    actual = clipped_surrogate(logprobs, logprobs, torch.tensor([2.0, -0.5]), mask, clip_range=0.2)
    assert_close(actual[mask], torch.tensor([-2.0, -2.0, -2.0, 0.5, 0.5]))


# Divergence


def test_penalties_of_the_worked_example():
    # p = (.5, .3, .2), q = (.2, .5, .3): q/p − log(q/p) − 1
    p, q = row(0.5, 0.3, 0.2), row(0.2, 0.5, 0.3)
    actual = kl_penalty(p.log(), row(0.9, 0.05, 0.05).log(), q.log(), prefix(3, of=3))
    expected = row(0.4 + math.log(2.5) - 1, 5 / 3 - math.log(5 / 3) - 1, 1.5 - math.log(1.5) - 1)
    assert_close(actual, expected)
    # and their mean under p is the exact KL(p‖q) = .223805
    assert_close((p * actual).sum(), torch.tensor(0.22380466))


@each_divergence
def test_penalties_are_0_at_the_reference_and_above_0_elsewhere(divergence_of):
    logprobs, mask = noise(4, 5), prefix(5, 5, 5, 5, of=5)
    old, reference = noise(4, 5, seed=2), noise(4, 5, seed=1)
    assert divergence_of(logprobs, old, logprobs, mask).tolist() == [[0.0] * 5] * 4
    assert (divergence_of(logprobs, old, reference, mask) > 0.0).all()


def test_the_gradient_of_penalties_is_that_of_the_divergence_the_other_way_round():
    logits, q = noise(3).double().requires_grad_(), noise(3, seed=1).double().softmax(0)
    p = logits.softmax(0)
    logprobs = p.log().unsqueeze(0)
    penalties = kl_penalty(logprobs, logprobs.detach(), q.log().unsqueeze(0), prefix(3, of=3)).squeeze(0)
    (drawn_from_p,) = torch.autograd.grad((p.detach() * penalties).sum(), logits, retain_graph=True)
    (reverse,) = torch.autograd.grad((q * (q / p).log()).sum(), logits, retain_graph=True)
    (forward,) = torch.autograd.grad((p * (p / q).log()).sum(), logits)
    assert_close(drawn_from_p, reverse)
    assert (drawn_from_p - forward).abs().max() > 0.05


def test_unbiased_penalties_of_the_worked_example():
    # The same p and q, old = (.25, .6, .15): ratios 2, .5 and 4/3.
    p, old, q = row(0.5, 0.3, 0.2), row(0.25, 0.6, 0.15), row(0.2, 0.5, 0.3)
    actual = unbiased_kl_penalty(p.log(), old.log(), q.log(), prefix(3, of=3))
    k3 = row(0.4 + math.log(2.5) - 1, 5 / 3 - math.log(5 / 3) - 1, 1.5 - math.log(1.5) - 1)
    assert_close(actual, row(2.0, 0.5, 4 / 3) * k3)
    # and their mean under old is the exact KL(p‖q) = .223805; that of k3 alone is .25·.3163 + .6·.1558 + .15·.0945
    assert_close((old * actual).sum(), torch.tensor(0.22380466))
    assert_close((old * k3).sum(), torch.tensor(0.18675753))


def test_the_gradient_of_unbiased_penalties_is_that_of_the_divergence_however_far_the_policy_has_moved():
    logits, q = noise(3).double().requires_grad_(), noise(3, seed=1).double().softmax(0)
    old = noise(3, seed=2).double().softmax(0)
    p = logits.softmax(0)
    rows = [x.log().unsqueeze(0) for x in (p, old, q)]
    drawn_from_old = (old * unbiased_kl_penalty(*rows, prefix(3, of=3)).squeeze(0)).sum()
    divergence = (p * (p / q).log()).sum()
    assert_close(drawn_from_old, divergence)
    assert_close(
        torch.autograd.grad(drawn_from_old, logits, retain_graph=True), torch.autograd.grad(divergence, logits)
    )


def test_where_the_responses_were_sampled_both_estimates_have_one_value_and_two_gradients():
    old, reference, mask = noise(2, 3).double(), noise(2, 3, seed=1).double(), prefix(3, 3, of=3)
    values, slopes = [], []
    for divergence_of in (kl_penalty, unbiased_kl_penalty):
        logprobs = old.clone().requires_grad_()
        values.append(divergence_of(logprobs, old, reference, mask))
        slopes.append(torch.autograd.grad(values[-1].sum(), logprobs)[0])
    assert_close(values[0], values[1])
    # ∇(ρ k₃) = ρ k₃ ∇log π + ρ ∇k₃, where ρ = 1
    assert_close(slopes[1], slopes[0] + values[0].detach())


# Aggregation


@pytest.mark.parametrize(("aggregate", "expected"), [(grpo, 0.0), (dapo, -1 / 3), (dr_grpo, -0.1)])
def test_aggregations_of_the_worked_example(aggregate, expected):
    # Lengths 2 and 4 of at most 10; loss +1 on every token of the first and −1 of the second:
    # (1 − 1)/2, (2 − 4)/6 and (2 − 4)/(2·10).
    losses, mask = torch.tensor([[1.0] * 4, [-1.0] * 4]), prefix(2, 4, of=4)
    assert_close(aggregate(losses, mask, 10), torch.tensor(expected))


@pytest.mark.parametrize(("aggregate", "expected"), [(grpo, 1.75), (dapo, 8 / 6), (dr_grpo, 0.4)])
def test_aggregations_of_losses_that_differ(aggregate, expected):
    # Rows (2 + 4)/2 = 3 and (1 + 0 + 3 − 2)/4 = .5; sums 6 and 2.
    losses = torch.tensor([[2.0, 4.0, 9.0, 9.0], [1.0, 0.0, 3.0, -2.0]])
    assert_close(aggregate(losses, prefix(2, 4, of=4), 10), torch.tensor(expected))


@each_aggregation
def test_full_length_responses_are_aggregated_alike(aggregate):
    losses = noise(3, 5)
    assert_close(aggregate(losses, prefix(5, 5, 5, of=5), 5), losses.mean())


@pytest.mark.parametrize(
    ("aggregate", "weights"),
    [(grpo, (1 / 4, 1 / 8)), (dapo, (1 / 6, 1 / 6)), (dr_grpo, (1 / 20, 1 / 20))],
)
def test_a_token_weighs_what_its_aggregation_says(aggregate, weights):
    losses = torch.zeros(2, 4, requires_grad=True)
    aggregate(losses, prefix(2, 4, of=4), 10).backward()
    short, long = weights
    assert_close(losses.grad, torch.tensor([[short, short, 0.0, 0.0], [long] * 4]))


@each_aggregation
def test_an_aggregate_does_not_depend_on_order_or_padding(aggregate):
    losses, mask, order = noise(4, 5), prefix(1, 5, 3, 2, of=5), torch.tensor([2, 0, 3, 1])
    whole = aggregate(losses, mask, 8)
    assert_close(aggregate(losses[order], mask[order], 8), whole)
    wider = torch.nn.functional.pad(losses, (0, 3), value=7.0), torch.nn.functional.pad(mask, (0, 3))
    assert_close(aggregate(*wider, 8), whole)


# The whole of it


def grpo_loss(logprobs, old, reference, advantages, mask, aggregate=grpo, beta=0.3, divergence_of=kl_penalty):
    losses = clipped_surrogate(logprobs, old, advantages, mask, clip_range=0.2)
    return aggregate(losses + beta * divergence_of(logprobs, old, reference, mask), mask, 8)


@each_aggregation
@each_divergence
@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_lies_off_the_mask_changes_no_loss_and_no_gradient(place, garbage, divergence_of, aggregate):
    mask, advantages = prefix(4, 2, 1, of=4), noise(3, seed=9)
    clean = [noise(3, 4, seed=seed) for seed in range(3)]
    dirty = [x.masked_fill(~mask, garbage) if i == place else x for i, x in enumerate(clean)]

    def value_and_gradient(tensors):
        first = tensors[0].clone().requires_grad_()
        value = grpo_loss(first, *tensors[1:], advantages, mask, aggregate, divergence_of=divergence_of)
        value.backward()
        return value.detach(), first.grad

    expected, actual = value_and_gradient(clean), value_and_gradient(dirty)
    assert_close(actual, expected)
    assert not actual[1][~mask].any()


@each_aggregation
@each_divergence
def test_the_slope_is_that_of_finite_differences(divergence_of, aggregate):
    old, reference, mask = noise(4, 3).double(), noise(4, 3, seed=1).double(), prefix(1, 2, 3, 3, of=3)
    new = (old + 0.1 * noise(4, 3, seed=2)).requires_grad_()  # inside the clip range, where the loss is smooth
    advantages = noise(4, seed=3).double()

    def loss(x):
        return grpo_loss(x, old, reference, advantages, mask, aggregate, divergence_of=divergence_of)

    assert torch.autograd.gradcheck(loss, new)


def test_without_scaling_grpo_reaches_the_closed_form_optimum_of_its_own_gradient():
    # E[(r − E r) ∇log π] = β ∇KL(π_ref‖π) where π (r − E r) + β (π_ref − π) = 0: π = β π_ref/(λ − r), with λ such that
    # it sums to 1. Rewards 0, 1 and .3, π_ref = (.5, .3, .2), β = .5: λ is found by bisection.
    scores, reference, beta = torch.tensor([0.0, 1.0, 0.3]).double(), torch.tensor([0.5, 0.3, 0.2]).double(), 0.5
    low, high = 1.0 + 1e-9, 10.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if (beta * reference / (middle - scores)).sum() > 1 else (low, middle)
    optimum = beta * reference / (low - scores)

    logits = reference.log().requires_grad_()
    mask = prefix(1, of=1)
    for _ in range(400):
        new = logits.log_softmax(-1)
        probabilities = new.detach().exp()
        advantages = scores - (probabilities * scores).sum()  # over an infinite group
        # Each arm once, weighted by its probability: the expectation, not an estimate of it.
        losses = [
            grpo_loss(x, x.detach(), r, a, mask, beta=beta)
            for x, r, a in zip(new.view(3, 1, 1), reference.log().view(3, 1, 1), advantages.view(3, 1), strict=True)
        ]
        (slope,) = torch.autograd.grad((probabilities * torch.stack(losses)).sum(), logits)
        logits.data -= 4.0 * slope
    assert_close(logits.detach().softmax(-1), optimum, atol=1e-6, rtol=0)
