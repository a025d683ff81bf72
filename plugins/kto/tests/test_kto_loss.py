"""The formulas of KTO against hand-worked numbers, laws and a problem with a closed-form solution."""

import math

import pytest
import torch
from torch.testing import assert_close
from zoo_kto.loss import kto_loss, reference_point

from zoo_core.functional import masked_sum
from zoo_core.testing.tensors import GARBAGE, noise, prefix

GOOD, BAD = torch.tensor([True]), torch.tensor([False])


def loss(log_ratio, desirable, point=0.0, beta=0.1, good=1.0, bad=1.0):
    return kto_loss(log_ratio, desirable, torch.tensor(point, dtype=log_ratio.dtype), beta, good, bad)


def test_loss_of_the_worked_example():
    # h 2, z₀ .5, β .1: σ(.15) = .537430, so 1 − .537430 where good and 1 − σ(−.15) = .537430 where bad
    h = torch.tensor([2.0])
    assert_close(loss(h, GOOD, 0.5), torch.tensor(0.46257015))
    assert_close(loss(h, BAD, 0.5), torch.tensor(0.53742985))
    # both, weighted 2 and 3, averaged: (2·.462570 + 3·.537430)/2
    assert_close(loss(h.repeat(2), torch.cat([GOOD, BAD]), 0.5, good=2.0, bad=3.0), torch.tensor(1.26871493))


def test_at_the_reference_each_response_costs_half_of_its_weight():
    assert_close(loss(torch.zeros(3), GOOD.repeat(3), good=1.4), torch.tensor(0.7))
    assert_close(loss(torch.zeros(3), BAD.repeat(3), bad=0.6), torch.tensor(0.3))


def test_at_the_reference_good_and_bad_responses_pull_alike_the_other_way_round():
    # β σ'(0) = .3/4, a third of it for each of three
    h = torch.zeros(3, requires_grad=True)
    loss(h, torch.tensor([True, False, True]), beta=0.3).backward()
    assert_close(h.grad, torch.tensor([-0.025, 0.025, -0.025]))


def test_what_a_good_and_a_bad_response_cost_adds_up_to_1():
    h = noise(8)
    assert_close(loss(h, GOOD.repeat(8), 0.5) + loss(h, BAD.repeat(8), 0.5), torch.tensor(1.0))


def test_a_response_far_on_either_side_no_longer_pulls():
    h = torch.tensor([-1000.0, 1000.0], requires_grad=True)
    value = loss(h, GOOD.repeat(2), beta=0.5)
    value.backward()
    assert_close(value.detach(), torch.tensor(0.5))
    assert not h.grad.any()


def test_the_reference_point_is_the_mean_and_never_below_0():
    assert_close(reference_point(torch.tensor([3.0, -1.0, 2.5])), torch.tensor(1.5))
    assert reference_point(torch.tensor([-3.0, 1.0])).item() == 0.0


def test_no_gradient_goes_through_the_reference_point():
    mismatched = noise(4).add(2.0).requires_grad_()
    assert reference_point(mismatched).item() > 1.0
    assert not reference_point(mismatched).requires_grad


def test_only_the_distance_from_the_reference_point_matters():
    h, desirable = noise(4), torch.tensor([True, False, False, True])
    assert_close(loss(h + 3.0, desirable, 3.5), loss(h, desirable, 0.5))


def test_a_batch_is_the_mean_of_its_responses():
    h, desirable = noise(6), torch.tensor([True, False, False, True, True, False])
    rows = [loss(h[i : i + 1], desirable[i : i + 1], 0.2, 0.7, 1.2, 0.9) for i in range(6)]
    assert_close(torch.stack(rows).mean(), loss(h, desirable, 0.2, 0.7, 1.2, 0.9))


def test_the_slope_is_that_of_finite_differences():
    h, desirable = noise(4).double().requires_grad_(), torch.tensor([True, False, False, True])
    assert torch.autograd.gradcheck(lambda x: loss(x, desirable, 0.3, 0.7, 1.2, 0.9), h)


@pytest.mark.parametrize("garbage", GARBAGE)
def test_padding_changes_neither_the_loss_nor_the_gradient_of_summed_log_ratios(garbage):
    mask, desirable = prefix(2, 1, of=3), torch.tensor([True, False])
    clean = noise(2, 3).requires_grad_()
    dirty = clean.detach().masked_fill(~mask, garbage).requires_grad_()
    losses = [loss(masked_sum(x, mask), desirable, 0.2) for x in (clean, dirty)]
    sum(losses).backward()
    assert_close(losses[1], losses[0])
    assert_close(dirty.grad, clean.grad)


@pytest.mark.parametrize(("share", "arm"), [(0.8, 1), (0.3, 0)])
def test_on_a_bandit_kto_takes_the_majority_of_its_labels_whatever_their_share(share, arm):
    # Arm 1 is good with probability p, arm 0 with 1 − p, and z₀ = 0. The expected loss falls with (2p − 1) h_1 and
    # with (1 − 2p) h_0: theorem 4.2 of the paper, the policy of the majority is the limit, not the odds p : 1 − p.
    logits = torch.zeros(2, dtype=torch.double, requires_grad=True)
    h = logits.log_softmax(-1) - math.log(0.5)
    expected = sum(
        p * loss(h[[i]], GOOD, beta=1.0) + (1 - p) * loss(h[[i]], BAD, beta=1.0)
        for i, p in ((1, share), (0, 1 - share))
    )
    (slope,) = torch.autograd.grad(expected, logits)
    # at the reference: −β/4 (2p − 1) (1, −1)
    assert_close(slope[1], torch.tensor(-(2 * share - 1) / 4, dtype=torch.double))
    assert slope.argmin().item() == arm


def test_on_a_bandit_with_a_fixed_reference_point_kto_reaches_the_closed_form_optimum():
    # Both arms are good, π_ref = (.5, .5), β 1, z₀ 0 and weights 1: L = mean 1/(1 + 2π_i), least at π = (.5, .5) by
    # symmetry. With arm 0 weighing 4 times as much (4 rows of it): 4/(1 + 2p)² = 1/(1 + 2(1 − p))², so
    # 2(3 − 2p) = 1 + 2p and p = 5/6.
    logits = torch.zeros(2, dtype=torch.double, requires_grad=True)
    for _ in range(3000):
        h = logits.log_softmax(-1) - math.log(0.5)
        (slope,) = torch.autograd.grad(loss(h[[0, 0, 0, 0, 1]], GOOD.repeat(5), beta=1.0), logits)
        logits.data -= 5.0 * slope
    assert_close(logits.detach().softmax(-1)[0], torch.tensor(5 / 6, dtype=torch.double), atol=1e-6, rtol=0)
