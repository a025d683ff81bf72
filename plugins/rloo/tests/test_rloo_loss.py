"""The formulas of RLOO against hand-worked numbers, laws and problems that can be enumerated."""

import itertools

import pytest
import torch
from torch.testing import assert_close
from zoo_rloo.loss import leave_one_out_advantages, regularised_rewards, rloo_loss

from zoo_core.testing.tensors import GARBAGE, noise, prefix

LOGITS, ARMS = torch.tensor([0.2, -0.1, 0.4], dtype=torch.double), torch.tensor([1.0, 0.0, 3.0], dtype=torch.double)
"""A softmax policy over three responses of one token, and their rewards."""


def expected_gradient(samples, advantages_of):
    """Return the mean of the loss's gradient over every group of so many samples of the three-armed policy."""
    logits = LOGITS.clone().requires_grad_()
    expected = torch.zeros(3, dtype=torch.double)
    for group in itertools.product(range(3), repeat=samples):
        arms = torch.tensor(group)
        logprobs = logits.log_softmax(-1)[arms]
        loss = rloo_loss(logprobs.unsqueeze(1), advantages_of(ARMS[arms]), prefix(*[1] * samples, of=1))
        (slope,) = torch.autograd.grad(loss, logits)
        expected += logprobs.sum().exp().detach() * slope
    return expected


# Rewards


def test_a_response_pays_for_the_sum_of_its_log_ratios():
    log_ratio = torch.tensor([[0.1, -0.2, 0.3], [1.0, 2.0, 9.0]])
    rewards = regularised_rewards(torch.tensor([5.0, 7.0]), log_ratio, prefix(3, 2, of=3), kl_coefficient=0.5)
    assert_close(rewards, torch.tensor([5.0 - 0.5 * 0.2, 7.0 - 0.5 * 3.0]))


def test_penalties_average_to_the_exact_kl():
    # Responses drawn 5 : 3 : 2 from p = (.5, .3, .2); reference q = (.2, .5, .3); KL(p‖q) = .223805.
    log_ratio = torch.tensor([0.5 / 0.2] * 5 + [0.3 / 0.5] * 3 + [0.2 / 0.3] * 2).log().unsqueeze(1)
    rewards = regularised_rewards(torch.ones(10), log_ratio, prefix(*[1] * 10, of=1), kl_coefficient=2.0)
    assert_close(rewards.mean(), torch.tensor(1.0 - 2.0 * 0.22380466))


# Advantages


def test_advantages_of_the_worked_example():
    # Sum 3.5; the means of the other three are .5, 1, 2/3 and 4/3.
    actual = leave_one_out_advantages(torch.tensor([2.0, 0.5, 1.5, -0.5]), samples_per_prompt=4)
    assert_close(actual, torch.tensor([1.5, -0.5, 0.8333333, -1.8333333]))


def test_each_prompt_is_compared_within_itself():
    rewards = torch.tensor([3.0, 1.0, 100.0, 104.0])
    assert leave_one_out_advantages(rewards, 2).tolist() == [2.0, -2.0, -4.0, 4.0]


@pytest.mark.parametrize("k", [2, 3, 6])
def test_advantages_of_a_prompt_sum_to_0_and_are_centred_rewards_scaled_up(k):
    rewards = noise(12)
    groups, advantages = rewards.view(-1, k), leave_one_out_advantages(rewards, k).view(-1, k)
    assert_close(advantages.sum(1), torch.zeros(12 // k))
    assert_close(advantages, k / (k - 1) * (groups - groups.mean(1, keepdim=True)))


def test_a_constant_added_to_the_rewards_of_a_prompt_changes_nothing_and_a_factor_scales():
    rewards, shift = noise(8), torch.tensor([5.0] * 4 + [-3.0] * 4)
    advantages = leave_one_out_advantages(rewards, 4)
    assert_close(leave_one_out_advantages(rewards + shift, 4), advantages)
    assert_close(leave_one_out_advantages(3.0 * rewards, 4), 3.0 * advantages)


def test_equal_rewards_have_no_advantage():
    assert leave_one_out_advantages(torch.full((4,), 0.75), 4).tolist() == [0.0] * 4


# Loss


def test_loss_and_gradient_of_a_worked_example():
    # log π(y) = −1 − 2 = −3 and −.5; A = 2 and −1: L = −½ (2·−3 − 1·−.5) = 2.75, slope −A/2 on every true token
    logprobs = torch.tensor([[-1.0, -2.0], [-0.5, -9.0]], requires_grad=True)
    loss = rloo_loss(logprobs, torch.tensor([2.0, -1.0]), prefix(2, 1, of=2))
    loss.backward()
    assert_close(loss, torch.tensor(2.75))
    assert_close(logprobs.grad, torch.tensor([[-1.0, -1.0], [0.5, 0.0]]))


def test_the_slope_is_that_of_finite_differences():
    logprobs, advantages, mask = noise(4, 3).double(), noise(4, seed=1).double(), prefix(1, 2, 3, 3, of=3)
    assert torch.autograd.gradcheck(lambda x: rloo_loss(x, advantages, mask), logprobs.requires_grad_())


@pytest.mark.parametrize("samples", [2, 3, 4])
def test_the_expected_gradient_is_the_exact_policy_gradient_by_enumeration(samples):
    # d E[r] / d logit = π (r − E[r]); the loss goes down where E[r] goes up.
    exact = torch.tensor([-0.193964, -0.393781, 0.587745], dtype=torch.double)
    actual = expected_gradient(samples, lambda rewards: leave_one_out_advantages(rewards, samples))
    assert_close(-actual, exact, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("samples", "share"), [(2, 1 / 2), (3, 2 / 3)])
def test_a_baseline_with_the_sample_itself_in_it_would_lose_a_share_of_the_gradient(samples, share):
    own = expected_gradient(samples, lambda rewards: rewards - rewards.mean())
    assert_close(own, share * expected_gradient(samples, lambda rewards: leave_one_out_advantages(rewards, samples)))


def test_a_batch_is_the_mean_of_its_responses_in_any_order():
    logprobs, advantages, mask = noise(6, 4), noise(6, seed=1), prefix(1, 2, 3, 4, 2, 4, of=4)
    whole = rloo_loss(logprobs, advantages, mask)
    rows = [rloo_loss(logprobs[i : i + 1], advantages[i : i + 1], mask[i : i + 1]) for i in range(6)]
    assert_close(torch.stack(rows).mean(), whole)
    order = torch.tensor([3, 1, 0, 2, 5, 4])
    assert_close(rloo_loss(logprobs[order], advantages[order], mask[order]), whole)


@pytest.mark.parametrize("garbage", GARBAGE)
def test_what_lies_off_the_mask_changes_no_reward_no_loss_and_no_gradient(garbage):
    mask, clean, advantages = prefix(4, 2, 1, of=4), noise(3, 4), noise(3, seed=1)
    dirty = clean.masked_fill(~mask, garbage)
    rewards = [regularised_rewards(advantages, x, mask, kl_coefficient=0.1) for x in (clean, dirty)]
    assert_close(rewards[1], rewards[0])
    clean, dirty = clean.requires_grad_(), dirty.requires_grad_()
    losses = [rloo_loss(x, advantages, mask) for x in (clean, dirty)]
    sum(losses).backward()
    assert_close(losses[1], losses[0])
    assert_close(dirty.grad, clean.grad)


# The whole of it


def test_rloo_reaches_the_closed_form_optimum_of_the_kl_regularised_reward():
    # All texts of a language of one word and an end mark (token 0), cut after two tokens: "⊣", "a⊣", "aa".
    # State 0 is the empty text, state 1 is "a". Maximiser of E[score] − β KL(π‖π_ref): π_ref·exp(score/β)/Z.
    states, tokens = torch.tensor([[0, 1]] * 3), torch.tensor([[0, 0], [1, 0], [1, 1]])
    mask, scores, beta = prefix(1, 2, 2, of=2), torch.tensor([0.0, 1.0, 0.3]).double(), 0.5
    reference = torch.tensor([[0.4, 0.0], [-0.3, 0.5]]).double().log_softmax(-1)
    logits = reference.clone().requires_grad_()
    pairs = torch.tensor(list(itertools.product(range(3), repeat=2)))

    def logprobs(table):
        return table.log_softmax(-1)[states, tokens]

    def probabilities(table):
        return (logprobs(table) * mask).sum(dim=1).exp()

    for _ in range(250):
        new = logprobs(logits)
        rewards = regularised_rewards(scores, new.detach() - logprobs(reference), mask, kl_coefficient=beta)
        advantages = leave_one_out_advantages(rewards[pairs].flatten(), samples_per_prompt=2)
        # Each pair once, weighted by its probability: the expectation, not an estimate of it.
        weights = probabilities(logits).detach()[pairs].prod(1).repeat_interleave(2) * len(pairs)
        loss = rloo_loss(new[pairs.flatten()], advantages * weights, mask[pairs.flatten()])
        (slope,) = torch.autograd.grad(loss, logits)
        logits.data -= 4.0 * slope

    optimum = probabilities(reference) * (scores / beta).exp()
    assert_close(probabilities(logits).detach(), optimum / optimum.sum(), atol=1e-6, rtol=0)
