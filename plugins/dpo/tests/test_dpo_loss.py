"""The formula of DPO against hand-worked numbers, laws and a problem with a closed-form solution."""

import math

import pytest
import torch
from torch.testing import assert_close
from zoo_dpo.loss import dpo_loss

from zoo_core.functional import masked_sum
from zoo_core.testing.tensors import noise


def value_and_gradients(chosen, rejected, beta):
    chosen, rejected = chosen.clone().requires_grad_(), rejected.clone().requires_grad_()
    value = dpo_loss(chosen, rejected, beta)
    value.backward()
    return value.detach(), chosen.grad, rejected.grad


def test_loss_and_gradient_of_the_worked_example():
    # log π −12 and −15, log π_ref −13 and −14: h = (1) − (−1) = 2; −log σ(.1·2) and ∓.1·σ(−.1·2)
    chosen, rejected = torch.tensor([-12.0]) - -13.0, torch.tensor([-15.0]) - -14.0
    value, up, down = value_and_gradients(chosen, rejected, beta=0.1)
    assert_close(value, torch.tensor(0.59813887))
    assert_close(up, torch.tensor([-0.0450166]))
    assert_close(down, torch.tensor([0.0450166]))


def test_at_the_reference_the_loss_is_log_2_and_each_pair_pulls_with_half_of_beta():
    value, up, down = value_and_gradients(torch.zeros(4), torch.zeros(4), beta=0.3)
    assert_close(value, torch.tensor(math.log(2)))
    assert_close(up, torch.full((4,), -0.15 / 4))
    assert_close(down, torch.full((4,), 0.15 / 4))


def test_loss_tends_to_log_2_as_beta_tends_to_0():
    value, *_ = value_and_gradients(noise(8), noise(8, seed=1), beta=1e-6)
    assert_close(value, torch.tensor(math.log(2)))


def test_a_pair_hopelessly_wrong_costs_its_margin_without_overflow():
    value, up, _ = value_and_gradients(torch.tensor([-1000.0]), torch.tensor([1000.0]), beta=0.5)
    assert_close(value, torch.tensor(1000.0))
    assert_close(up, torch.tensor([-0.5]))


def test_swapping_chosen_and_rejected_negates_the_margin():
    chosen, rejected = noise(8), noise(8, seed=1)
    loss, swapped = (dpo_loss(*pair, beta=0.7) for pair in ((chosen, rejected), (rejected, chosen)))
    # log σ(x) − log σ(−x) = x
    assert_close(swapped - loss, 0.7 * (chosen - rejected).mean())


def test_a_function_of_the_prompt_in_both_log_ratios_changes_nothing():
    chosen, rejected, shift = noise(8), noise(8, seed=1), noise(8, seed=2)
    assert_close(dpo_loss(chosen + shift, rejected + shift, beta=0.7), dpo_loss(chosen, rejected, beta=0.7))


def test_a_batch_is_the_mean_of_its_pairs():
    chosen, rejected = noise(8), noise(8, seed=1)
    pairs = [dpo_loss(chosen[i : i + 1], rejected[i : i + 1], beta=0.7) for i in range(8)]
    assert_close(torch.stack(pairs).mean(), dpo_loss(chosen, rejected, beta=0.7))


@pytest.mark.parametrize("garbage", [1e6, math.inf, -math.inf, math.nan])
def test_padding_changes_neither_the_loss_nor_the_gradient_of_summed_log_ratios(garbage):
    mask = torch.tensor([[True, True, False], [True, False, False]])
    clean = [noise(2, 3, seed=seed).requires_grad_() for seed in range(2)]
    dirty = [x.detach().masked_fill(~mask, garbage).requires_grad_() for x in clean]
    losses = [dpo_loss(masked_sum(c, mask), masked_sum(r, mask), beta=0.7) for c, r in (clean, dirty)]
    sum(losses).backward()
    assert_close(losses[1], losses[0])
    for x, y in zip(clean, dirty, strict=True):
        assert_close(y.grad, x.grad)


def test_loss_is_flat_where_two_arms_have_their_closed_form_odds():
    # π_ref (.7, .3), rewards (0, 1), β = .5: π* ∝ (.7, .3·e²) = (.239996, .760004). Arm 1 wins with σ(1).
    reference, optimum = torch.tensor([0.7, 0.3]), torch.tensor([0.239996, 0.760004])
    log_ratio = (optimum / reference).log()
    preferred = 0.73105858
    _, up, down = value_and_gradients(log_ratio[[1]], log_ratio[[0]], beta=0.5)
    _, up_swapped, down_swapped = value_and_gradients(log_ratio[[0]], log_ratio[[1]], beta=0.5)
    assert_close(preferred * up + (1 - preferred) * down_swapped, torch.zeros(1), atol=1e-5, rtol=0)
    assert_close(preferred * down + (1 - preferred) * up_swapped, torch.zeros(1), atol=1e-5, rtol=0)
    assert up < -0.1  # neither pull is 0 by itself


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_dpo_on_all_preferences_reaches_the_closed_form_optimum_of_the_kl_regularised_reward(beta):
    # Rewards log 1, log 2 and log 6 are preferred 2 : 1, 6 : 1 and 3 : 1. So are the rows below.
    pairs = [(1, 0)] * 2 + [(0, 1)] + [(2, 0)] * 6 + [(0, 2)] + [(2, 1)] * 3 + [(1, 2)]
    chosen, rejected = torch.tensor(pairs).T
    reference = torch.tensor([0.5, 0.3, 0.2], dtype=torch.double)
    logits = reference.log().requires_grad_()
    for _ in range(300):
        log_ratio = logits.log_softmax(-1) - reference.log()
        (slope,) = torch.autograd.grad(dpo_loss(log_ratio[chosen], log_ratio[rejected], beta), logits)
        logits.data -= 4.0 / beta**2 * slope
    optimum = reference * torch.tensor([1.0, 2.0, 6.0], dtype=torch.double) ** (1 / beta)
    assert_close(logits.detach().softmax(-1), optimum / optimum.sum(), atol=1e-6, rtol=0)
