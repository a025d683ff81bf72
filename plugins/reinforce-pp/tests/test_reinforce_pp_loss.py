"""The formulas of REINFORCE++ against hand-worked numbers, laws and a problem that can be enumerated."""

import pytest
import torch
from torch.testing import assert_close
from zoo_ppo.loss import clipped_policy_loss, token_rewards
from zoo_reinforce_pp.loss import less_group_mean, rewards_to_go, whitened_advantages

from zoo_core.testing.tensors import GARBAGE, noise, prefix


def of_mask(values, mask):
    """Return the entries on the mask."""
    return values[mask]


# Scores


def test_scores_are_compared_with_the_mean_of_their_own_group():
    # means 2 and 102
    assert less_group_mean(torch.tensor([3.0, 1.0, 100.0, 104.0]), 2).tolist() == [1.0, -1.0, -2.0, 2.0]


def test_the_spread_of_a_group_stays_as_it_is():
    assert less_group_mean(torch.tensor([10.0, -10.0, 0.1, -0.1]), 2).tolist() == pytest.approx([10, -10, 0.1, -0.1])


@pytest.mark.parametrize("k", [2, 3, 6])
def test_the_rewards_of_a_prompt_sum_to_0(k):
    assert_close(less_group_mean(noise(12), k).view(-1, k).sum(1), torch.zeros(12 // k))


# Rewards to go


def test_rewards_to_go_of_a_worked_example():
    # 4 slots, 3 tokens: .1 + .2 + .4 + 5; .2 + .4 + 5; .4 + 5. The second ends after one token.
    rewards = torch.tensor([[0.1, 0.2, 0.4, 5.0], [0.5, -1.0, 0.0, 0.0]])
    assert_close(rewards_to_go(rewards), torch.tensor([[5.7, 5.6, 5.4], [-0.5, -1.0, 0.0]]))


def test_where_divergence_costs_nothing_every_token_of_a_response_has_its_score():
    mask, scores = prefix(4, 2, 1, of=4), torch.tensor([1.5, -0.5, 3.0])
    found = rewards_to_go(token_rewards(scores, noise(3, 4), mask, kl_coefficient=0.0))
    assert_close(of_mask(found, mask), of_mask(scores.unsqueeze(1).expand(3, 4), mask))


# Advantages


def test_advantages_of_a_worked_example():
    # A = 3, 3 | 0 over three tokens: mean 2, variance (1 + 1 + 4) / 3 = 2
    rewards = torch.tensor([[0.0, 0.0, 3.0], [0.0, 0.0, 0.0]])
    found = whitened_advantages(rewards, prefix(2, 1, of=2))
    assert_close(found, torch.tensor([[1.0, 1.0], [-2.0, 0.0]]) / 2**0.5)


def test_advantages_have_mean_0_and_variance_1_over_the_tokens_of_the_batch():
    mask = prefix(5, 3, 1, 4, of=5)
    found = of_mask(whitened_advantages(noise(4, 6), mask), mask)
    assert_close(found.mean(), torch.tensor(0.0), atol=1e-6, rtol=0)
    assert_close(found.var(correction=0), torch.tensor(1.0))


def test_a_constant_added_to_all_scores_and_their_unit_change_nothing():
    mask, scores, log_ratio = prefix(4, 2, 1, of=4), noise(3), noise(3, 4, seed=1)

    def advantages(scores, beta):
        return whitened_advantages(token_rewards(scores, log_ratio, mask, beta), mask)

    assert_close(advantages(scores + 7.0, 0.3), advantages(scores, 0.3), atol=1e-5, rtol=0)
    assert_close(advantages(3.0 * scores, 0.9), advantages(scores, 0.3))


@pytest.mark.parametrize("garbage", GARBAGE)
def test_what_lies_off_the_mask_changes_no_advantage(garbage):
    mask, scores, clean = prefix(4, 2, 1, of=4), noise(3), noise(3, 4, seed=1)
    found = [
        whitened_advantages(token_rewards(scores, ratio, mask, 0.1), mask)
        for ratio in (clean, clean.masked_fill(~mask, garbage))
    ]
    assert_close(found[1], found[0])
    assert found[0][~mask].tolist() == [0.0] * 5


# The whole of it


def test_it_rests_at_the_closed_form_optimum_of_the_kl_regularised_reward_and_nowhere_near_it():
    # Three responses of one token. At π = π_ref exp(r/β)/Z all rewards r − β log(π/π_ref) are β log Z: no advantage.
    reference = torch.tensor([0.5, 0.3, 0.2]).double()
    scores, beta, mask = torch.tensor([0.0, 1.0, 0.4]).double(), 0.5, prefix(1, 1, 1, of=1)
    optimum = reference * (scores / beta).exp()
    optimum /= optimum.sum()

    def slope(policy):
        logits = policy.log().requires_grad_()
        logprobs = logits.log_softmax(-1)
        log_ratio = (logprobs.detach() - reference.log()).unsqueeze(1)
        rewards = token_rewards(scores, log_ratio, mask, beta)
        found = rewards_to_go(rewards).squeeze(1)
        # Each response once, weighted by its probability; a baseline of any value leaves the expectation.
        loss = (policy * -logprobs * (found - found.mean())).sum()
        return torch.autograd.grad(loss, logits)[0].norm()

    assert slope(optimum) < 1e-12
    assert slope(reference) > 0.05


def test_on_the_samples_own_policy_the_loss_has_the_gradient_of_reinforce():
    logprobs, mask = noise(3, 4).requires_grad_(), prefix(4, 2, 1, of=4)
    advantages = whitened_advantages(noise(3, 5, seed=1), mask)
    clipped_policy_loss(logprobs, logprobs.detach(), advantages, mask, 0.2).backward()
    assert_close(logprobs.grad, -advantages / mask.sum())
