"""The formulas of RRHF against hand-worked numbers and laws."""

from itertools import combinations

import pytest
import torch
from torch.nn.functional import pad
from torch.testing import assert_close
from zoo_rrhf.loss import fine_tune_loss, rank_loss
from zoo_sft.loss import sft_loss

from zoo_core.functional import masked_row_mean
from zoo_core.testing.tensors import GARBAGE, noise


def all_present(values):
    return torch.ones_like(values, dtype=torch.bool)


def value_and_gradient(function, values, scores, present=None):
    values = values.clone().requires_grad_()
    loss = function(values, scores, all_present(scores) if present is None else present)
    loss.backward()
    return loss.detach(), values.grad


MASK = torch.tensor([[True, True, True, True], [True, True, False, False], [True, False, False, False]])
SCORES = torch.tensor([[1.0, 0.2, 0.8]])
RAGGED = torch.tensor([[True, True, True, False], [True, True, False, False], [True, True, True, True]])
both_losses = pytest.mark.parametrize("function", [rank_loss, fine_tune_loss])


def test_p_is_the_mean_over_the_tokens_of_each_response():
    # (−.5 − 1 − 3 − 1.5)/4, (−2 − 4)/2, −7/1
    logprobs = torch.tensor([[-0.5, -1.0, -3.0, -1.5], [-2.0, -4.0, 9.0, 9.0], [-7.0, 9.0, 9.0, 9.0]])
    assert_close(masked_row_mean(logprobs, MASK), torch.tensor([-1.5, -3.0, -7.0]))


def test_p_does_not_change_when_every_token_is_doubled():
    logprobs = noise(3, 4)
    doubled = masked_row_mean(logprobs.repeat_interleave(2, 1), MASK.repeat_interleave(2, 1))
    assert_close(doubled, masked_row_mean(logprobs, MASK))


@pytest.mark.parametrize("garbage", GARBAGE)
def test_padding_changes_neither_p_nor_its_gradient(garbage):
    clean = noise(3, 4).requires_grad_()
    dirty = pad(clean.detach(), (2, 1)).masked_fill(~pad(MASK, (2, 1)), garbage).requires_grad_()
    values = masked_row_mean(clean, MASK), masked_row_mean(dirty, pad(MASK, (2, 1)))
    assert_close(values[1], values[0])
    sum(value.sum() for value in values).backward()
    assert_close(dirty.grad[:, 2:-1], clean.grad)


def test_rank_loss_of_the_worked_example():
    # r (1, .2, .8), p (−.8, −.5, −.9). Lower against higher score: 2 over 1 by .3, 2 over 3 by .4, 3 over 1 by −.1 → 0.
    loss, gradient = value_and_gradient(rank_loss, torch.tensor([[-0.8, -0.5, -0.9]]), SCORES)
    assert_close(loss, torch.tensor(0.7))
    assert_close(gradient, torch.tensor([[-1.0, 2.0, -1.0]]))


def test_a_group_in_the_right_order_has_neither_loss_nor_gradient_however_small_the_margin():
    loss, gradient = value_and_gradient(rank_loss, torch.tensor([[-0.1, -0.10002, -0.10001]]), SCORES)
    assert loss == 0
    assert not gradient.any()


def test_pairs_with_equal_scores_or_equal_p_pull_at_nothing():
    for p, scores in [([[-3.0, -1.0]], [[0.5, 0.5]]), ([[-1.0, -1.0]], [[1.0, 0.0]])]:
        loss, gradient = value_and_gradient(rank_loss, torch.tensor(p), torch.tensor(scores))
        assert loss == 0
        assert not gradient.any()


@both_losses
def test_only_the_order_of_the_scores_matters(function):
    values, scores = noise(5, 4), noise(5, 4, seed=1)
    loss = value_and_gradient(function, values, scores)
    for other in (scores.exp(), 100 * scores - 7, scores**3):
        assert_close(value_and_gradient(function, values, other), loss)


def test_each_token_of_a_violated_pair_is_pulled_by_one_over_its_response_s_length():
    # The worse response, of 2 tokens, is ahead of the better one, of 4: up by 1/4 a token, down by 1/2 a token.
    logprobs = torch.tensor([[-3.0, -1.0, -2.0, -2.0], [-1.0, -1.5, 0.0, 0.0]], requires_grad=True)
    scores = torch.tensor([[1.0, 0.0]])
    rank_loss(masked_row_mean(logprobs, MASK[:2]).unsqueeze(0), scores, all_present(scores)).backward()
    assert_close(logprobs.grad, torch.tensor([[-0.25, -0.25, -0.25, -0.25], [0.5, 0.5, 0.0, 0.0]]))


def test_rank_loss_is_the_sum_over_pairs_written_out():
    p, scores = noise(1, 6), noise(1, 6, seed=1)
    expected = 0.0
    for i, j in combinations(range(6), 2):
        low, high = (i, j) if scores[0, i] < scores[0, j] else (j, i)
        expected += max(0.0, (p[0, low] - p[0, high]).item())
    assert_close(value_and_gradient(rank_loss, p, scores)[0], torch.tensor(expected))


@both_losses
def test_a_batch_of_prompts_is_the_mean_of_its_prompts(function):
    # The paper's code takes best and pairs over all rows: it would compare responses to different prompts.
    values, scores = noise(3, 4) - 3, noise(3, 4, seed=1)
    loss, gradient = value_and_gradient(function, values, scores, RAGGED)
    singles = [value_and_gradient(function, values[i : i + 1], scores[i : i + 1], RAGGED[i : i + 1]) for i in range(3)]
    assert_close(loss, torch.stack([one for one, _ in singles]).mean())
    assert_close(gradient, torch.cat([slope for _, slope in singles]) / 3)
    assert loss > 0


@both_losses
@pytest.mark.parametrize("garbage", GARBAGE)
def test_responses_that_a_group_has_not_change_neither_loss_nor_gradient(function, garbage):
    values, scores = noise(3, 4) - 2, noise(3, 4, seed=1)
    loss, gradient = value_and_gradient(function, values.masked_fill(~RAGGED, 0.0), scores, RAGGED)
    for filled in (scores.masked_fill(~RAGGED, 1e6), scores.masked_fill(~RAGGED, -1e6)):
        again, slope = value_and_gradient(function, values.masked_fill(~RAGGED, garbage), filled, RAGGED)
        assert_close(again, loss)
        assert_close(slope, gradient)
    assert not gradient[~RAGGED].any()


@both_losses
def test_the_order_of_responses_in_a_group_does_not_matter(function):
    values, scores, order = noise(3, 4), noise(3, 4, seed=1), torch.tensor([2, 0, 3, 1])
    one = function(values, scores, RAGGED)
    assert_close(function(values[:, order], scores[:, order], RAGGED[:, order]), one)


def test_fine_tuning_pulls_at_the_best_response_only():
    # Best are the first of the first prompt and the third of the second: (12 + 5)/2
    values = torch.tensor([[-12.0, -4.0, -9.0], [-7.0, -3.0, -5.0]])
    loss, gradient = value_and_gradient(fine_tune_loss, values, torch.tensor([[1.0, 0.2, 0.8], [-3.0, -2.0, -1.0]]))
    assert_close(loss, torch.tensor(8.5))
    assert_close(gradient, torch.tensor([[-0.5, 0.0, 0.0], [0.0, 0.0, -0.5]]))


def test_of_several_best_responses_the_first_is_imitated():
    loss, _ = value_and_gradient(fine_tune_loss, torch.tensor([[-12.0, -4.0, -9.0]]), torch.tensor([[0.0, 1.0, 1.0]]))
    assert_close(loss, torch.tensor(4.0))


def test_the_sum_over_tokens_is_imitated_so_that_padding_does_not_change_the_loss():
    # The paper's code divides by the padded length: 6 more columns would make its loss smaller.
    logprobs, scores = noise(3, 4) - 2, torch.tensor([[0.0, 1.0, 0.5]])

    def loss(logprobs, mask):
        sums = (masked_row_mean(logprobs, mask) * mask.sum(1)).unsqueeze(0)
        return fine_tune_loss(sums, scores, all_present(scores))

    assert_close(loss(logprobs, MASK), -logprobs[1, :2].sum())
    assert_close(loss(pad(logprobs, (3, 3), value=7.0), pad(MASK, (3, 3))), loss(logprobs, MASK))


def test_with_one_response_a_prompt_it_is_supervised_fine_tuning():
    logprobs = noise(3, 4) - 2
    p, scores = masked_row_mean(logprobs, MASK).unsqueeze(1), noise(3, 1)
    ranking = rank_loss(p, scores, all_present(scores))
    imitation = fine_tune_loss(p * MASK.sum(1, keepdim=True), scores, all_present(scores))
    assert ranking == 0
    # SFT's mean is over the 7 tokens, RRHF's over the 3 prompts.
    assert_close(imitation, sft_loss(logprobs, MASK) * 7 / 3)
