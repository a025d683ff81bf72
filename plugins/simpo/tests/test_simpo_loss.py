"""The formulas of SimPO and CPO against hand-worked numbers, laws and problems with a closed-form solution."""

import math

import pytest
import torch
from torch.testing import assert_close
from zoo_simpo.loss import cpo_loss, simpo_loss

from zoo_core.functional import masked_row_mean, masked_sum
from zoo_core.testing.tensors import GARBAGE, noise, prefix, row


def losses(logprobs, mask):
    """Return SimPO's and CPO's loss of the tokens of pairs: all chosen responses, then the rejected ones."""
    simpo = simpo_loss(*masked_row_mean(logprobs, mask).chunk(2), 2.0, 0.5)
    return [simpo, cpo_loss(*masked_sum(logprobs, mask).chunk(2), 0.3)]


def test_simpo_of_the_worked_example():
    # β 2, γ 1: means −1 and −1.5 lead by exactly the target, ln 2; −1 and −1 fall short of it, softplus(1)
    assert_close(simpo_loss(torch.tensor([-1.0]), torch.tensor([-1.5]), 2.0, 1.0), torch.tensor(math.log(2)))
    assert_close(simpo_loss(torch.tensor([-1.0]), torch.tensor([-1.0]), 2.0, 1.0), torch.tensor(1.31326169))
    # the other way round: −log σ(2·(−.5) − 1) = softplus(2)
    assert_close(simpo_loss(torch.tensor([-1.5]), torch.tensor([-1.0]), 2.0, 1.0), torch.tensor(2.12692801))


def test_cpo_of_the_worked_example():
    # β .1, log π −12 and −15: −log σ(.3)
    assert_close(cpo_loss(torch.tensor([-12.0]), torch.tensor([-15.0]), 0.1), torch.tensor(0.55435524))


def test_a_pair_pulls_by_beta_times_what_it_lacks():
    # −β σ(γ − β d) at β 2, d .25, γ 1: 2 σ(.5) = 1.244919; CPO at β .1, d 3: .1 σ(−.3) = .0425557
    chosen, rejected = torch.tensor([-1.0], requires_grad=True), torch.tensor([-1.25], requires_grad=True)
    simpo_loss(chosen, rejected, 2.0, 1.0).backward()
    assert_close((chosen.grad, rejected.grad), (torch.tensor([-1.2449187]), torch.tensor([1.2449187])))
    chosen, rejected = torch.tensor([-12.0], requires_grad=True), torch.tensor([-15.0], requires_grad=True)
    cpo_loss(chosen, rejected, 0.1).backward()
    assert_close((chosen.grad, rejected.grad), (torch.tensor([-0.0425557]), torch.tensor([0.0425557])))


def test_a_pair_far_beyond_the_target_no_longer_pulls():
    for loss_of in (lambda c, r: simpo_loss(c, r, 2.0, 1.0), lambda c, r: cpo_loss(c, r, 2.0)):
        chosen = torch.tensor([-1.0], requires_grad=True)
        loss_of(chosen, torch.tensor([-1000.0])).backward()
        assert chosen.grad.item() == 0.0


def test_means_of_the_worked_example():
    # (−1 − 2)/2 and (−1 − 2 − 6)/3
    logprobs = torch.tensor([[-1.0, -2.0, -9.0], [-1.0, -2.0, -6.0]])
    assert_close(masked_row_mean(logprobs, prefix(2, 3, of=3)), torch.tensor([-1.5, -3.0]))


def test_saying_every_token_twice_changes_simpo_not_at_all_and_doubles_the_margin_of_cpo():
    logprobs, mask = noise(4, 3), prefix(1, 3, 2, 3, of=3)
    twice, wide = logprobs.repeat_interleave(2, 1), mask.repeat_interleave(2, 1)
    (simpo, cpo), (same, other) = losses(logprobs, mask), losses(twice, wide)
    assert_close(same, simpo)
    assert_close(other, cpo_loss(*masked_sum(logprobs, mask).chunk(2), 0.6))
    assert abs(other - cpo) > 0.01


@pytest.mark.parametrize("number", range(2))
def test_a_batch_is_the_mean_of_its_pairs(number):
    logprobs, mask = noise(6, 3), prefix(1, 2, 3, 3, 2, 1, of=3)
    pairs = [losses(logprobs[[i, i + 3]], mask[[i, i + 3]])[number] for i in range(3)]
    assert_close(torch.stack(pairs).mean(), losses(logprobs, mask)[number])


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("number", range(2))
def test_what_lies_off_the_mask_changes_no_loss_and_no_gradient(number, garbage):
    mask = prefix(3, 1, 2, 3, of=3)
    clean = noise(4, 3).requires_grad_()
    dirty = clean.detach().masked_fill(~mask, garbage).requires_grad_()
    values = [losses(x, mask)[number] for x in (clean, dirty)]
    sum(values).backward()
    assert_close(values[1], values[0])
    assert_close(dirty.grad, clean.grad)
    assert not dirty.grad[~mask].any()


@pytest.mark.parametrize("number", range(2))
def test_the_slope_is_that_of_finite_differences(number):
    mask = prefix(3, 1, 2, 3, of=3)
    assert torch.autograd.gradcheck(lambda x: losses(x, mask)[number], noise(4, 3).double().requires_grad_())


@pytest.mark.parametrize(
    ("loss_of", "optimum"),
    [  # β d = log(.8/.2) without a target: σ(log(4)/β)
        (lambda c, r: cpo_loss(c, r, 0.5), 1 / (1 + math.exp(-math.log(4) / 0.5))),
        (lambda c, r: simpo_loss(c, r, 2.0, 0.0), 1 / (1 + math.exp(-math.log(4) / 2.0))),
    ],
)
def test_on_a_bandit_they_reach_the_odds_of_the_labels_by_a_power_whatever_the_policy_began_with(loss_of, optimum):
    # One token an arm. Without a reference π(1)/π(0) = (.8/.2)^(1/β), from any start.
    logits = row(2.0, -1.0).squeeze(0).double().requires_grad_()
    for _ in range(3000):
        logprobs = logits.log_softmax(-1)
        wins, fails = loss_of(logprobs[[1]], logprobs[[0]]), loss_of(logprobs[[0]], logprobs[[1]])
        (slope,) = torch.autograd.grad(0.8 * wins + 0.2 * fails, logits)
        logits.data -= slope
    assert logits.detach().softmax(-1)[1].item() == pytest.approx(optimum, abs=1e-5)
