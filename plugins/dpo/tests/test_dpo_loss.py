"""The formulas of DPO and its relatives against hand-worked numbers, laws and problems with a closed-form solution."""

import math

import pytest
import torch
from torch.testing import assert_close
from zoo_dpo.loss import (
    conservative_dpo_loss,
    dpo_loss,
    dpo_nll_loss,
    dpo_norm_loss,
    dpo_positive_loss,
    ipo_loss,
    robust_dpo_loss,
)

from zoo_core.functional import masked_sum
from zoo_core.testing.tensors import noise, row


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


# Its relatives


def slope_at(loss_of, chosen, rejected):
    """Return the gradients with respect to h_w and h_l of one pair."""
    chosen, rejected = (torch.tensor([h], dtype=torch.double, requires_grad=True) for h in (chosen, rejected))
    up, down = torch.autograd.grad(loss_of(chosen, rejected), (chosen, rejected))
    return up.item(), down.item()


def test_relatives_of_the_worked_example():
    # d = 2, β = .1: l(2) = .598139 and l(−2) = .798139, a nat of margin apart. ε = .1:
    # .9·.598139 + .1·.798139, and (.9·.598139 − .1·.798139)/.8
    chosen, rejected = torch.tensor([1.0]), torch.tensor([-1.0])
    assert_close(conservative_dpo_loss(chosen, rejected, 0.1, 0.1), torch.tensor(0.61813887))
    assert_close(robust_dpo_loss(chosen, rejected, 0.1, 0.1), torch.tensor(0.57313887))
    # IPO: the target is 1/(2·.1) = 5. Sums are (2 − 5)²; means over 6 and 5 tokens (1/6 + 1/5 − 5)²
    assert_close(ipo_loss(chosen, rejected, 0.1), torch.tensor(9.0))
    assert_close(ipo_loss(chosen / 6, rejected / 5, 0.1), torch.tensor(21.467778))


def test_at_the_reference_ipo_costs_the_square_of_its_target_and_the_others_log_2():
    zeros = torch.zeros(3)
    assert_close(ipo_loss(zeros, zeros, tau=0.1), torch.tensor(25.0))
    assert_close(conservative_dpo_loss(zeros, zeros, 0.3, 0.2), torch.tensor(math.log(2)))
    assert_close(robust_dpo_loss(zeros, zeros, 0.3, 0.2), torch.tensor(math.log(2)))


@pytest.mark.parametrize("loss_of", [conservative_dpo_loss, robust_dpo_loss])
def test_without_label_noise_they_are_dpo_to_the_bit(loss_of):
    chosen, rejected = 100 * noise(8), 100 * noise(8, seed=1)
    assert torch.equal(loss_of(chosen, rejected, 0.7, 0.0), dpo_loss(chosen, rejected, 0.7))


def test_robust_dpo_averaged_over_flips_is_dpo_on_true_labels():
    chosen, rejected = noise(8), noise(8, seed=1)
    true, flipped = (robust_dpo_loss(*pair, 0.7, 0.2) for pair in ((chosen, rejected), (rejected, chosen)))
    assert_close(0.8 * true + 0.2 * flipped, dpo_loss(chosen, rejected, 0.7))


def test_conservative_dpo_is_dpo_averaged_over_flips():
    chosen, rejected = noise(8), noise(8, seed=1)
    true, flipped = (dpo_loss(*pair, 0.7) for pair in ((chosen, rejected), (rejected, chosen)))
    assert_close(conservative_dpo_loss(chosen, rejected, 0.7, 0.2), 0.8 * true + 0.2 * flipped)


def test_conservative_dpo_is_flat_where_the_margin_is_the_log_odds_of_a_right_label():
    # β .1, ε .1: log(.9/.1)/.1 = 21.972246 nats
    def loss_of(chosen, rejected):
        return conservative_dpo_loss(chosen, rejected, 0.1, 0.1)

    assert slope_at(loss_of, 21.972246, 0.0) == pytest.approx((0.0, 0.0), abs=1e-7)
    assert slope_at(loss_of, 20.0, 0.0)[0] < -1e-4
    assert slope_at(loss_of, 24.0, 0.0)[0] > 1e-4


def test_robust_dpo_falls_without_end_on_a_pair_whose_label_is_never_flipped():
    # log σ(100) = 0 and log σ(−100) = −100: −.1·100/.8; each further nat of margin, .1·.1/.8 of it
    far, rejected = torch.tensor([1000.0]), torch.tensor([0.0])
    assert_close(robust_dpo_loss(far, rejected, 0.1, 0.1), torch.tensor(-12.5))
    up, down = slope_at(lambda chosen, rejected: robust_dpo_loss(chosen, rejected, 0.1, 0.1), 1000.0, 0.0)
    assert (up, down) == pytest.approx((-0.0125, 0.0125))


@pytest.mark.parametrize(("margin", "slope"), [(0.0, -4.0), (2.0, 0.0), (3.0, 2.0)])
def test_the_pull_of_ipo_is_twice_the_distance_to_the_target_and_turns_round_there(margin, slope):
    # τ = .25: the target is 2
    assert slope_at(lambda *pair: ipo_loss(*pair, tau=0.25), margin, 0.0) == (slope, -slope)


def relatives(chosen, rejected):
    """Return their losses in turn."""
    losses = [conservative_dpo_loss(chosen, rejected, 0.7, 0.2), robust_dpo_loss(chosen, rejected, 0.7, 0.2)]
    return [*losses, ipo_loss(chosen, rejected, 0.7)]


def test_a_batch_of_a_relative_is_the_mean_of_its_pairs():
    chosen, rejected = noise(8), noise(8, seed=1)
    pairs = [torch.stack(relatives(chosen[i : i + 1], rejected[i : i + 1])) for i in range(8)]
    assert_close(torch.stack(pairs).mean(0), torch.stack(relatives(chosen, rejected)))


@pytest.mark.parametrize("number", range(3))
def test_the_slope_of_a_relative_is_that_of_finite_differences(number):
    chosen, rejected = (noise(5, seed=seed).double().requires_grad_() for seed in range(2))
    assert torch.autograd.gradcheck(lambda *pair: relatives(*pair)[number], (chosen, rejected))


@pytest.mark.parametrize("garbage", [1e6, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("number", range(3))
def test_padding_changes_no_relative_and_none_of_their_gradients(number, garbage):
    mask = torch.tensor([[True, True, False], [True, False, False]])
    clean = [noise(2, 3, seed=seed).requires_grad_() for seed in range(2)]
    dirty = [x.detach().masked_fill(~mask, garbage).requires_grad_() for x in clean]
    losses = [relatives(masked_sum(c, mask), masked_sum(r, mask))[number] for c, r in (clean, dirty)]
    sum(losses).backward()
    assert_close(losses[1], losses[0])
    for x, y in zip(clean, dirty, strict=True):
        assert_close(y.grad, x.grad)


@pytest.mark.parametrize(
    ("loss_of", "share", "rate", "optimum"),
    [
        # The loss of a label of probability p is least at h_1 − h_0 = (2p − 1)/(2τ), and π_ref is (.5, .5):
        # σ(1/(2·.5)), σ(.6/(2·.5))
        (lambda c, r: ipo_loss(c, r, tau=0.5), 1.0, 0.1, 0.731059),
        (lambda c, r: ipo_loss(c, r, tau=0.5), 0.8, 0.1, 0.645656),
        # Labels that are always right are believed at 1 − ε: β d = log(.9/.1), d = log(9)/.5, σ(4.394449)
        (lambda c, r: conservative_dpo_loss(c, r, 0.5, 0.1), 1.0, 4.0, 0.987805),
        # Right with .8 and flipped with .1 are .8·.9 + .2·.1 = .74: robust DPO ends where DPO does with .8,
        # d = log(4)/.5, σ(2.772589)
        (lambda c, r: robust_dpo_loss(c, r, 0.5, 0.1), 0.74, 4.0, 0.941176),
        (lambda c, r: dpo_loss(c, r, 0.5), 0.8, 4.0, 0.941176),
    ],
)
def test_a_relative_reaches_the_closed_form_optimum_of_a_bandit_with_two_arms(loss_of, share, rate, optimum):
    reference = row(0.5, 0.5).squeeze(0).double()
    logits = torch.zeros(2, dtype=torch.double, requires_grad=True)
    for _ in range(2000):
        log_ratio = logits.log_softmax(-1) - reference.log()
        wins, losses = loss_of(log_ratio[[1]], log_ratio[[0]]), loss_of(log_ratio[[0]], log_ratio[[1]])
        (slope,) = torch.autograd.grad(share * wins + (1 - share) * losses, logits)
        logits.data -= rate * slope
    assert logits.detach().softmax(-1)[1].item() == pytest.approx(optimum, abs=1e-5)


# With imitation, per token, and with a penalty


def test_dpo_with_imitation_of_the_worked_example():
    # d = 2, 0: mean −log σ(.1 d) = (.598139 + .693147)/2; 2 + 6 nats over 1 + 3 tokens are 2 per token, half counts
    sums, tokens = torch.tensor([-2.0, -6.0]), torch.tensor([1, 3])
    loss = dpo_nll_loss(torch.tensor([1.0, 0.5]), torch.tensor([-1.0, 0.5]), sums, tokens, 0.1, 0.5)
    assert_close(loss, torch.tensor((0.59813887 + 0.69314718) / 2 + 0.5 * 2.0))


def test_imitation_pulls_every_token_of_the_chosen_answers_alike_and_nothing_else():
    chosen, rejected = noise(3).requires_grad_(), noise(3, seed=1).requires_grad_()
    sums, tokens = noise(3, seed=2).requires_grad_(), torch.tensor([1, 4, 5])
    dpo_nll_loss(chosen, rejected, sums, tokens, 0.7, 3.0).backward()
    assert_close(sums.grad, torch.full((3,), -3.0 / 10))
    _, up, down = value_and_gradients(chosen.detach(), rejected.detach(), 0.7)
    assert_close((chosen.grad, rejected.grad), (up, down))


def test_dpo_per_token_of_the_worked_example():
    # 6/3 − 2/4 = 1.5; −log σ(.8·1.5)
    loss = dpo_norm_loss(torch.tensor([6.0]), torch.tensor([2.0]), torch.tensor([3]), torch.tensor([4]), beta=0.8)
    assert_close(loss, torch.tensor(math.log1p(math.exp(-1.2))))


def test_on_answers_of_one_length_dpo_per_token_is_dpo_with_a_smaller_beta():
    chosen, rejected, tokens = noise(8), noise(8, seed=1), torch.full((8,), 5)
    assert_close(dpo_norm_loss(chosen, rejected, tokens, tokens, beta=2.0), dpo_loss(chosen, rejected, beta=0.4))


def test_an_answer_said_twice_has_the_same_margin_per_token():
    chosen, rejected, tokens, others = noise(8), noise(8, seed=1), torch.arange(1, 9), torch.arange(8, 0, -1)
    once = dpo_norm_loss(chosen, rejected, tokens, others, beta=2.0)
    assert_close(dpo_norm_loss(2 * chosen, rejected, 2 * tokens, others, beta=2.0), once)


def test_dpo_positive_of_the_worked_example():
    # h_w = −.5 loses 4·.5 more: −.5 − .3 − 2 = −2.8; h_w = 1 loses nothing: 1.3
    loss = dpo_positive_loss(torch.tensor([-0.5, 1.0]), torch.tensor([0.3, -0.3]), 0.5, 4.0)
    assert_close(loss, torch.tensor((math.log1p(math.exp(1.4)) + math.log1p(math.exp(-0.65))) / 2))


def test_dpo_positive_is_dpo_where_no_chosen_answer_became_less_likely():
    chosen, rejected = noise(8).abs(), noise(8, seed=1)
    assert_close(dpo_positive_loss(chosen, rejected, 0.7, 50.0), dpo_loss(chosen, rejected, beta=0.7))


def test_dpo_positive_pulls_a_chosen_answer_that_became_less_likely_harder_by_its_coefficient():
    chosen, rejected = torch.tensor([-0.5], requires_grad=True), torch.tensor([0.1], requires_grad=True)
    dpo_positive_loss(chosen, rejected, 0.7, 4.0).backward()
    assert_close(chosen.grad, 5.0 * -rejected.grad)
