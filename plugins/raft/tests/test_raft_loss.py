"""The formulas of RAFT against hand-worked numbers, laws and distributions that can be enumerated."""

import itertools
import math

import pytest
import torch
from torch.testing import assert_close
from zoo_raft.loss import (
    all_positive,
    best_of_all,
    best_of_each,
    raft_plus_plus_loss,
    ranking_scores,
    regularised_scores,
)
from zoo_sft.loss import sft_loss

from zoo_core.testing.tensors import GARBAGE, noise, prefix, row

PROBABILITIES = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.double)
REWARDS = torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=torch.double)
"""A policy over four responses and their rewards: mean 1."""
SELECTIONS = [best_of_each, best_of_all, all_positive]

each_selection = pytest.mark.parametrize("select", SELECTIONS, ids=lambda function: function.__name__)


def selected_distribution(probabilities, rewards, samples):
    """Return how likely each response is to be the selected one, over every tuple of so many samples."""
    tuples = torch.tensor(list(itertools.product(range(len(rewards)), repeat=samples)))
    winners = tuples.flatten()[best_of_each(rewards[tuples].flatten(), samples)]
    return torch.zeros_like(probabilities).index_add(0, winners, probabilities[tuples].prod(1))


# Ranking


def test_only_responses_that_were_cut_off_are_ranked_below_all_others():
    scores, ended = torch.tensor([0.7, 2.5, -3.0]), torch.tensor([True, False, True])
    assert ranking_scores(scores, ended).tolist() == pytest.approx([0.7, -math.inf, -3.0])


def test_a_response_loses_rank_by_the_sum_of_its_log_ratios():
    log_ratio = torch.tensor([[0.1, -0.2, 0.3], [1.0, 2.0, 9.0]])
    actual = regularised_scores(torch.tensor([5.0, -math.inf]), log_ratio, prefix(3, 2, of=3), kl_coefficient=0.5)
    assert_close(actual, torch.tensor([5.0 - 0.5 * 0.2, -math.inf]))


@pytest.mark.parametrize("garbage", GARBAGE)
def test_what_lies_off_the_mask_changes_no_rank(garbage):
    mask, log_ratio, scores = prefix(4, 2, 1, of=4), noise(3, 4), noise(3, seed=1)
    dirty = log_ratio.masked_fill(~mask, garbage)
    assert_close(regularised_scores(scores, dirty, mask, 0.1), regularised_scores(scores, log_ratio, mask, 0.1))


def test_where_divergence_is_dear_what_the_reference_finds_likely_is_selected():
    # log(π/π₀) of the four responses; the dearer, the more it and the less the reward decides.
    log_ratio, mask = torch.tensor([[0.0], [0.4], [1.0], [3.0]]), prefix(1, 1, 1, 1, of=1)
    regularised = [regularised_scores(REWARDS.float(), log_ratio, mask, beta) for beta in (0.0, 1.0, 2.0, 9.0)]
    winners = [best_of_each(scores, 4).item() for scores in regularised]
    assert winners == [3, 2, 1, 0]


# Selection


def test_the_best_response_of_each_prompt_is_selected():
    scores = torch.tensor([0.1, 0.9, 0.5, 7.0, 5.0, 6.0, -3.0, -1.0, -0.5])
    assert best_of_each(scores, 3).tolist() == [1, 3, 8]


def test_the_best_of_the_batch_are_selected_best_first_whatever_their_prompts():
    scores = torch.tensor([0.1, 0.9, 0.5, 7.0, 5.0, 6.0, -3.0, -1.0, -0.5])
    assert best_of_all(scores, 3).tolist() == [3, 5, 4]


def test_all_responses_above_0_are_selected():
    scores = torch.tensor([0.1, 0.0, -0.5, 7.0, -math.inf])
    assert all_positive(scores, 5).tolist() == [0, 3]


def test_of_equal_responses_the_first_is_selected():
    scores = torch.tensor([1.0, 2.0, 2.0, 2.0, 2.0, 1.0])
    assert best_of_each(scores, 3).tolist() == [1, 3]
    assert best_of_all(scores, 3).tolist() == [1, 2]


@each_selection
def test_what_was_cut_off_is_never_selected_and_a_prompt_without_another_is_skipped(select):
    cut = -math.inf
    rows = select(torch.tensor([cut, cut, cut, cut, 0.5, cut]), 2)
    assert rows.tolist() == [4]
    assert select(torch.full((6,), cut), 2).tolist() == []


def test_one_sample_per_prompt_selects_every_response():
    scores = torch.tensor([0.1, -0.9, 0.5])
    assert best_of_each(scores, 1).tolist() == [0, 1, 2]
    assert sorted(best_of_all(scores, 1).tolist()) == [0, 1, 2]


MAPS = {
    "affine": lambda scores: 2.0 * scores + 5.0,
    "monotone": lambda scores: scores.exp() ** 3,
    "offset by prompt": lambda scores: scores + torch.tensor([4.0, 0.0, -3.0]).repeat_interleave(4),
}


@pytest.mark.parametrize("reward_map", MAPS)
def test_the_best_of_each_prompt_stays_the_best_under_any_increasing_map(reward_map):
    scores = noise(12)
    assert best_of_each(MAPS[reward_map](scores), 4).tolist() == best_of_each(scores, 4).tolist()


def test_the_best_of_the_batch_needs_rewards_that_compare_across_prompts():
    scores = noise(12)
    same = [best_of_all(MAPS[name](scores), 4).tolist() == best_of_all(scores, 4).tolist() for name in MAPS]
    assert same == [True, True, False]


# Best of K, by enumeration


@pytest.mark.parametrize(
    ("samples", "expected", "reward", "divergence"),
    [  # F(y)ᴷ − F(y⁻)ᴷ with F = (.4, .7, .9, 1): K = 2 gives .16, .49 − .16, .81 − .49, 1 − .81
        (1, (0.4, 0.3, 0.2, 0.1), 1.0, 0.0),
        (2, (0.16, 0.33, 0.32, 0.19), 1.54, 0.157199),
        (4, (0.0256, 0.2145, 0.416, 0.3439), 2.0782, 0.587114),
    ],
)
def test_the_selected_response_has_the_distribution_of_best_of_k(samples, expected, reward, divergence):
    actual = selected_distribution(PROBABILITIES, REWARDS, samples)
    assert_close(actual, torch.tensor(expected, dtype=torch.double))
    assert (actual * REWARDS).sum().item() == pytest.approx(reward)
    kl = (actual * (actual / PROBABILITIES).log()).sum().item()
    assert kl == pytest.approx(divergence, abs=1e-6)
    assert kl <= math.log(samples) - (samples - 1) / samples + 1e-12


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_selection_raises_the_reward_but_no_further_than_its_range_allows(samples):
    # E r ≤ E[best] ≤ E r + width·√(log K / 2)
    mean, best = 1.0, (selected_distribution(PROBABILITIES, REWARDS, samples) * REWARDS).sum().item()
    assert mean - 1e-12 <= best <= mean + 3.0 * math.sqrt(math.log(samples) / 2) + 1e-12


def test_stages_with_infinite_data_go_through_the_iterates_of_best_of_k_to_the_best_response():
    # Fine-tuning to the end on what a stage selects makes the policy the selected distribution: best of 2, then of 4
    # of the start, then of 8 ... (F² squared is F⁴).
    logits = PROBABILITIES.log()
    for stage in range(1, 5):
        target = selected_distribution(logits.softmax(0), REWARDS, 2)
        parameter = logits.clone().requires_grad_()
        for _ in range(300):
            # Each response once, weighted by its probability: the expectation, not a sample of it.
            weighted = 4 * target * parameter.log_softmax(0)
            (slope,) = torch.autograd.grad(sft_loss(weighted.unsqueeze(1), prefix(1, 1, 1, 1, of=1)), parameter)
            parameter.data -= 3.0 * slope
        logits = parameter.detach()
        distribution = PROBABILITIES.cumsum(0) ** 2**stage
        expected = distribution.diff(prepend=torch.zeros(1, dtype=torch.double))
        assert_close(logits.softmax(0), expected, atol=1e-3, rtol=0)
    assert logits.softmax(0)[3] > 0.8  # 1 − .9¹⁶ = .8147, on its way to 1


# RAFT++


@pytest.mark.parametrize(
    ("ratio", "loss", "slope"),
    [  # −2·min(ρ, 1.2); the slope is by log π
        (0.5, -1.0, -1.0),
        (1.0, -2.0, -2.0),
        (1.1, -2.2, -2.2),
        (1.3, -2.4, 0.0),
    ],
)
def test_only_tokens_that_have_not_become_too_likely_are_pushed(ratio, loss, slope):
    old = row(-1.5)
    logprobs = (old + math.log(ratio)).requires_grad_()
    actual = raft_plus_plus_loss(logprobs, old, torch.tensor([2.0]), prefix(1, of=1), clip_range=0.2)
    actual.backward()
    assert_close(actual, torch.tensor(loss))
    assert_close(logprobs.grad, row(slope))


def test_loss_is_the_weighted_mean_over_tokens():
    # Ratios 1, 1, 1.5 → 1.2 with weight 2; .5 with weight 3: (2 + 2 + 2.4 + 1.5)/4
    old = noise(2, 3)
    logprobs = old + torch.tensor([[1.0, 1.0, 1.5], [0.5, 7.0, 7.0]]).log()
    actual = raft_plus_plus_loss(logprobs, old, torch.tensor([2.0, 3.0]), prefix(3, 1, of=3), clip_range=0.2)
    assert_close(actual, torch.tensor(-7.9 / 4))


def test_where_the_responses_were_sampled_the_slope_is_that_of_weighted_imitation():
    old, weights, mask = noise(3, 4), torch.tensor([0.5, 2.0, 1.0]), prefix(4, 2, 3, of=4)
    logprobs, same = old.clone().requires_grad_(), old.clone().requires_grad_()
    raft_plus_plus_loss(logprobs, old, weights, mask, clip_range=0.2).backward()
    sft_loss(weights.unsqueeze(1) * same, mask).backward()
    assert_close(logprobs.grad, same.grad)


def test_the_slope_is_that_of_finite_differences():
    old, weights, mask = noise(4, 3).double(), noise(4, seed=1).double().abs(), prefix(1, 2, 3, 3, of=3)
    new = (old + 0.3 * noise(4, 3, seed=2)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: raft_plus_plus_loss(x, old, weights, mask, 0.2), new)


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("place", [0, 1])
def test_what_lies_off_the_mask_changes_no_loss_and_no_gradient(place, garbage):
    mask, weights = prefix(4, 2, 1, of=4), torch.tensor([0.5, 2.0, 1.0])
    clean = [noise(3, 4, seed=seed) for seed in range(2)]
    dirty = [x.masked_fill(~mask, garbage) if i == place else x for i, x in enumerate(clean)]

    def value_and_gradient(tensors):
        first = tensors[0].clone().requires_grad_()
        value = raft_plus_plus_loss(first, tensors[1], weights, mask, clip_range=0.2)
        value.backward()
        return value.detach(), first.grad

    expected, actual = value_and_gradient(clean), value_and_gradient(dirty)
    assert_close(actual, expected)
    assert not actual[1][~mask].any()
