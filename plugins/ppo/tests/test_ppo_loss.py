"""The formulas of PPO against hand-worked numbers, slow oracles, laws and a problem with a known solution."""

import math

import pytest
import torch
from torch.testing import assert_close
from zoo_ppo.loss import (
    adaptive_kl_coefficient,
    clipped_policy_loss,
    clipped_value_loss,
    gae,
    slot_mask,
    token_rewards,
)

from zoo_core.functional import approximate_kl, clip_fraction, masked_whiten
from zoo_core.testing.tensors import GARBAGE, noise, prefix, row

# Rewards


def test_the_slots_of_a_response_are_its_tokens_and_one_more():
    assert slot_mask(prefix(0, 2, 3, of=3)).tolist() == prefix(1, 3, 4, of=4).tolist()


def test_every_token_pays_its_kl_and_the_slot_after_the_last_token_gets_the_score():
    log_ratio = torch.tensor([[0.1, -0.2, 0.3], [1.0, 2.0, 9.0]])
    rewards = token_rewards(torch.tensor([5.0, 7.0]), log_ratio, prefix(3, 2, of=3), kl_coefficient=0.5)
    assert_close(rewards, torch.tensor([[-0.05, 0.10, -0.15, 5.0], [-0.5, -1.0, 7.0, 0.0]]))


def test_a_policy_equal_to_its_reference_pays_nothing():
    rewards = token_rewards(torch.tensor([5.0, 7.0]), torch.zeros(2, 3), prefix(3, 1, of=3), 0.5)
    assert_close(rewards, torch.tensor([[0.0, 0.0, 0.0, 5.0], [0.0, 7.0, 0.0, 0.0]]))


def test_rewards_of_a_response_sum_to_its_score_less_its_log_ratio():
    scores, log_ratio, mask = noise(8), noise(8, 5, seed=1), prefix(1, 2, 3, 4, 5, 5, 4, 3, of=5)
    rewards = token_rewards(scores, log_ratio, mask, kl_coefficient=0.3)
    assert_close(rewards.sum(dim=1), scores - 0.3 * (log_ratio * mask).sum(dim=1))


def test_penalties_average_to_the_exact_kl():
    # Tokens drawn 5 : 3 : 2 from p = (.5, .3, .2); reference q = (.2, .5, .3); KL(p‖q) = .223805.
    log_ratio = torch.tensor([0.5 / 0.2] * 5 + [0.3 / 0.5] * 3 + [0.2 / 0.3] * 2).log().unsqueeze(0)
    penalties = token_rewards(torch.zeros(1), log_ratio, prefix(10, of=10), kl_coefficient=1.0)
    assert_close(-penalties.sum() / 10, torch.tensor(0.22380466))


# Advantages


@pytest.mark.parametrize(
    ("gae_lambda", "advantages"),
    [
        (0.0, (0.1, 0.2, 0.2)),  # one-step errors: .6−.5, .8−.6, 1−.8
        (0.5, (0.25, 0.3, 0.2)),  # .2 + .5·.2 = .3, .1 + .5·.3 = .25
        (0.95, (0.4705, 0.39, 0.2)),
        (1.0, (0.5, 0.4, 0.2)),  # the reward still to come, 1, less the value
    ],
)
def test_advantages_of_the_worked_example(gae_lambda, advantages):
    rewards, values = row(0.0, 0.0, 1.0), row(0.5, 0.6, 0.8)
    actual = gae(rewards, values, prefix(3, of=3), discount=1.0, gae_lambda=gae_lambda)
    assert_close(actual, row(*advantages))


def test_advantages_and_returns_when_the_score_is_paid_after_the_last_token():
    # δ = (.1, .2, .1, .1); Â = (.1 + .95·.38525, .2 + .95·.195, .1 + .95·.1, .1)
    mask, values = prefix(3, of=3), row(0.5, 0.6, 0.8, 0.9)
    rewards = token_rewards(torch.ones(1), torch.zeros(1, 3), mask, kl_coefficient=0.1)
    advantages = gae(rewards, values, slot_mask(mask), discount=1.0, gae_lambda=0.95)
    assert_close(advantages, row(0.4659875, 0.38525, 0.195, 0.1))
    assert_close(advantages + values, row(0.9659875, 0.98525, 0.995, 1.0))


def test_a_critic_that_knows_the_score_has_nothing_to_learn_in_the_last_slot():
    mask, values = prefix(2, of=3), row(0.5, 0.6, 0.8, 0.9)
    rewards = token_rewards(torch.tensor([0.8]), noise(1, 3), mask, kl_coefficient=0.1)
    advantages = gae(rewards, values, slot_mask(mask), discount=1.0, gae_lambda=0.95)
    assert advantages[0, 2:].tolist() == [0.0, 0.0]


def gae_by_definition(rewards, values, discount, gae_lambda):
    """Return Â_t = Σ_l (γλ)^l δ_{t+l}, the sum printed in the paper, for the slots of one response."""
    after = [*values[1:], 0.0]
    deltas = [r + discount * v_next - v for r, v_next, v in zip(rewards, after, values, strict=True)]
    steps = range(len(rewards))
    return [sum((discount * gae_lambda) ** (k - t) * deltas[k] for k in steps if k >= t) for t in steps]


@pytest.mark.parametrize(("discount", "gae_lambda"), [(1.0, 1.0), (1.0, 0.95), (0.9, 0.5), (0.8, 0.0)])
def test_advantages_match_their_definition_for_every_length_and_are_0_off_the_slots(discount, gae_lambda):
    lengths = [1, 2, 4, 6]
    rewards, values, slots = noise(4, 6), noise(4, 6, seed=1), prefix(*lengths, of=6)
    actual = gae(rewards, values, slots, discount, gae_lambda)
    for i, length in enumerate(lengths):
        first = rewards[i, :length].tolist(), values[i, :length].tolist()
        expected = torch.tensor(gae_by_definition(*first, discount, gae_lambda))
        assert_close(actual[i], torch.nn.functional.pad(expected, (0, 6 - length)))


def test_without_critic_kl_discount_and_decay_every_token_gets_the_score():
    mask = prefix(3, 1, of=3)
    rewards = token_rewards(torch.tensor([2.0, -1.5]), noise(2, 3), mask, kl_coefficient=0.0)
    advantages = gae(rewards, torch.zeros(2, 4), slot_mask(mask), discount=1.0, gae_lambda=1.0)
    assert_close(advantages, torch.tensor([[2.0, 2.0, 2.0, 2.0], [-1.5, -1.5, 0.0, 0.0]]))


def test_a_constant_added_to_all_scores_leaves_whitened_advantages_unchanged():
    mask, scores, log_ratio = prefix(3, 1, 2, of=3), noise(3), noise(3, 3, seed=1)

    def whitened(scores):
        rewards = token_rewards(scores, log_ratio, mask, kl_coefficient=0.1)
        advantages = gae(rewards, torch.full((3, 4), 0.4), slot_mask(mask), discount=1.0, gae_lambda=1.0)
        return masked_whiten(advantages[:, :-1], mask)

    assert_close(whitened(scores + 3.0), whitened(scores))


# Policy loss

# (Â, ρ, loss, dloss/dρ) at ε = .2
CLIPPING = [
    (+1.0, 0.7, -0.7, -1.0),  # good and got rarer: full pull back
    (+1.0, 1.0, -1.0, -1.0),
    (+1.0, 1.3, -1.2, 0.0),  # good and already much likelier: capped at 1+ε
    (-1.0, 0.7, +0.8, 0.0),  # bad and already much rarer: capped at 1−ε
    (-1.0, 1.0, +1.0, +1.0),
    (-1.0, 1.3, +1.3, +1.0),  # bad and got likelier: full push away
    (+2.0, 1.1, -2.2, -2.0),  # within the range: as if there were no clipping
    (-2.0, 0.9, +1.8, +2.0),
]


@pytest.mark.parametrize(("advantage", "ratio", "loss", "slope"), CLIPPING)
def test_policy_loss_clips_only_what_would_be_gained(advantage, ratio, loss, slope):
    old = row(-1.5)
    logprobs = (old + math.log(ratio)).requires_grad_()
    actual = clipped_policy_loss(logprobs, old, row(advantage), prefix(1, of=1), clip_range=0.2)
    actual.backward()
    assert_close(actual, torch.tensor(loss))
    assert_close(logprobs.grad, row(slope * ratio))  # dρ/dlogp = ρ


def test_policy_loss_is_the_mean_over_tokens_not_over_responses():
    advantages, ratios, losses, _ = torch.tensor(CLIPPING).unbind(1)
    mask = prefix(5, 3, of=5)
    tokens = [torch.zeros(2, 5).masked_scatter(mask, x) for x in (ratios.log(), advantages)]
    actual = clipped_policy_loss(tokens[0], torch.zeros(2, 5), tokens[1], mask, clip_range=0.2)
    assert_close(actual, losses.mean())


def test_on_the_first_minibatch_the_gradient_is_that_of_reinforce():
    logprobs, mask = noise(2, 3).requires_grad_(), prefix(3, 1, of=3)
    advantages = masked_whiten(noise(2, 3, seed=1), mask)
    old = logprobs.detach()
    loss = clipped_policy_loss(logprobs, old, advantages, mask, clip_range=0.2)
    loss.backward()
    assert_close(loss, torch.tensor(0.0), atol=1e-6, rtol=0)  # mean of whitened advantages
    assert_close(logprobs.grad, -advantages / 4)
    assert clip_fraction(old, old, mask, clip_range=0.0) == 0
    assert approximate_kl(old, old, mask) == 0


def test_loss_on_the_first_minibatch_is_minus_the_mean_advantage():
    logprobs = noise(1, 3)
    loss = clipped_policy_loss(logprobs, logprobs, row(0.3, -0.7, 1.1), prefix(3, of=3), clip_range=0.2)
    assert_close(loss, torch.tensor(-0.7 / 3))


# Value loss


@pytest.mark.parametrize(
    ("value", "target", "loss", "slope"),
    [
        (0.5, 2.0, 1.125, -1.5),  # moved away from the return: ½·1.5²
        (1.0, 2.0, 0.5, -1.0),  # has not moved
        (1.1, 2.0, 0.405, -0.9),  # moved within the range: ½·.9²
        (1.5, 2.0, 0.32, 0.0),  # moved nearer than 1.2: ½·.8², and no further push
        (2.5, 2.0, 0.32, 0.0),  # overshot, still nearer than 1.2
        (5.0, 2.0, 4.5, 3.0),  # overshot far: ½·3²
        (0.5, 0.0, 0.32, 0.0),  # the same downwards: nearer than .8
    ],
)
def test_value_loss_takes_the_larger_error_of_a_move_from_1_clipped_at_02(value, target, loss, slope):
    values = row(value).requires_grad_()
    actual = clipped_value_loss(values, row(1.0), row(target), prefix(1, of=1), clip_range=0.2)
    actual.backward()
    assert_close(actual, torch.tensor(loss))
    assert_close(values.grad, row(slope))


def test_value_loss_is_the_mean_over_slots():
    # value moves from 0 to:   0 (stays)   1 (onto the return)   −1 (away from it)   5 (masked)
    # plain squared error:     1.00        0.00                   4.00
    # move clipped to ±0.2:    1.00        0.64                   1.44
    values, old_values, returns = row(0.0, 1.0, -1.0, 5.0), torch.zeros(1, 4), torch.ones(1, 4)
    loss = clipped_value_loss(values, old_values, returns, prefix(3, of=4), clip_range=0.2)
    assert_close(loss, torch.tensor(0.5 * (1.00 + 0.64 + 4.00) / 3))


# The coefficient


@pytest.mark.parametrize(
    ("kl", "expected"),
    [  # .15·(1 + e·512/10000), e = KL/6 − 1 within ±.2
        (0.0, 0.148464),
        (3.0, 0.148464),
        (5.4, 0.149232),
        (6.0, 0.15),
        (6.6, 0.150768),
        (12.0, 0.151536),
    ],
)
def test_kl_coefficient_follows_the_worked_table(kl, expected):
    actual = adaptive_kl_coefficient(0.15, kl, target=6.0, horizon=10000.0, episodes=512)
    assert actual == pytest.approx(expected, rel=1e-9)


# Nothing outside the responses matters


@pytest.mark.parametrize("garbage", GARBAGE)
def test_what_lies_off_the_mask_changes_no_reward_and_no_advantage(garbage):
    mask = prefix(4, 2, of=4)
    scores, log_ratio, values = noise(2), noise(2, 4, seed=1), noise(2, 5, seed=2)

    def advantages(log_ratio, values, extra):
        rewards = token_rewards(scores, log_ratio, mask, kl_coefficient=0.1)
        rewards = rewards.masked_fill(~slot_mask(mask), extra)
        return gae(rewards, values, slot_mask(mask), discount=0.9, gae_lambda=0.8)

    dirty = log_ratio.masked_fill(~mask, garbage), values.masked_fill(~slot_mask(mask), garbage), garbage
    assert_close(advantages(*dirty), advantages(log_ratio, values, 0.0))
    assert token_rewards(scores, dirty[0], mask, kl_coefficient=0.1)[1, 3:].tolist() == [0.0, 0.0]


LOSSES = {
    "policy": lambda x, y, z, mask: clipped_policy_loss(x, y, z, mask, clip_range=0.2),
    "value": lambda x, y, z, mask: clipped_value_loss(x, y, z, mask, clip_range=0.2),
    "clip fraction": lambda x, y, z, mask: clip_fraction(x, y, mask, clip_range=0.2),
    "approximate KL": lambda x, y, z, mask: approximate_kl(x, y, mask),
}


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("loss", ["policy", "value"])
def test_what_lies_off_the_mask_changes_no_loss_and_no_gradient(loss, place, garbage):
    mask = prefix(4, 2, 1, of=4)
    clean = [noise(3, 4, seed=seed) for seed in range(3)]
    dirty = [x.masked_fill(~mask, garbage) if i == place else x for i, x in enumerate(clean)]

    def value_and_gradient(tensors):
        first = tensors[0].clone().requires_grad_()
        value = LOSSES[loss](first, *tensors[1:], mask)
        value.backward()
        return value.detach(), first.grad

    expected, actual = value_and_gradient(clean), value_and_gradient(dirty)
    assert_close(actual, expected)
    assert not actual[1][~mask].any()


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_is_the_token_weighted_mean_of_its_rows_in_any_order_and_padding(loss):
    mask, tensors = prefix(1, 2, 3, 4, 5, 6, 2, 4, of=6), [noise(8, 6, seed=seed) for seed in range(3)]
    whole = LOSSES[loss](*tensors, mask)

    rows = [LOSSES[loss](*(x[i : i + 1] for x in tensors), mask[i : i + 1]) for i in range(8)]
    assert_close((torch.stack(rows) * mask.sum(dim=1)).sum() / mask.sum(), whole)

    order = torch.tensor([3, 1, 7, 0, 2, 6, 4, 5])
    assert_close(LOSSES[loss](*(x[order] for x in tensors), mask[order]), whole)

    wider = [torch.nn.functional.pad(x, (0, 3), value=7.0) for x in tensors]
    assert_close(LOSSES[loss](*wider, torch.nn.functional.pad(mask, (0, 3))), whole)


# The whole of it


def test_ppo_reaches_the_closed_form_optimum_of_the_kl_regularised_reward():
    # All texts of a language of one word and an end mark (token 0), cut after two tokens: "⊣", "a⊣", "aa".
    # State 0 is the empty text, state 1 is "a". Maximiser of E[score] − β KL(π‖π_ref): π_ref·exp(score/β)/Z.
    states, tokens = torch.tensor([[0, 1]] * 3), torch.tensor([[0, 0], [1, 0], [1, 1]])
    mask, scores, beta = prefix(1, 2, 2, of=2), torch.tensor([0.0, 1.0, 0.3]).double(), 0.5
    values = torch.tensor([[0.3, 0.6, 9.0], [0.3, -0.2, 0.4], [0.3, -0.2, 0.1]]).double()  # any critic
    reference = torch.tensor([[0.4, 0.0], [-0.3, 0.5]]).double().log_softmax(-1)
    logits = reference.clone().requires_grad_()

    def logprobs(table):
        return table.log_softmax(-1)[states, tokens]

    def probabilities(table):
        return (logprobs(table) * mask).sum(dim=1).exp()

    for _ in range(250):
        old = logprobs(logits).detach()
        rewards = token_rewards(scores, old - logprobs(reference), mask, kl_coefficient=beta)
        advantages = gae(rewards, values, slot_mask(mask), discount=1.0, gae_lambda=1.0)[:, :-1]
        # Each response once, weighted by its probability: the expectation, not an estimate of it.
        weighted = advantages * probabilities(logits).detach().unsqueeze(1)
        for _ in range(2):
            loss = clipped_policy_loss(logprobs(logits), old, weighted, mask, clip_range=0.2)
            (slope,) = torch.autograd.grad(loss, logits)
            logits.data -= 5.0 * slope

    optimum = probabilities(reference) * (scores / beta).exp()
    assert_close(probabilities(logits).detach(), optimum / optimum.sum(), atol=1e-6, rtol=0)
