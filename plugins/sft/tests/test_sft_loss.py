"""The formula of supervised fine-tuning against hand-worked numbers and laws."""

import math

import pytest
import torch
from torch.nn.functional import pad
from torch.testing import assert_close
from zoo_sft.loss import sft_loss

from zoo_core.functional import token_logprobs
from zoo_core.testing.tensors import noise

MASK = torch.tensor([[True, True, True, True], [True, True, False, False], [True, False, False, False]])
TOKENS = torch.tensor([[3, 1, 4, 0], [2, 0, 0, 0], [0, 0, 0, 0]])


def test_loss_is_the_mean_over_tokens_not_over_responses():
    # (.5 + 1 + 3) / 3 = 1.5 over tokens; the mean of the two rows' means would be (.75 + 3) / 2 = 1.875
    logprobs = torch.tensor([[-0.5, -1.0], [-3.0, -8.0]])
    mask = torch.tensor([[True, True], [True, False]])
    assert_close(sft_loss(logprobs, mask), torch.tensor(1.5))


def test_a_uniform_model_loses_the_log_of_the_vocabulary_per_token():
    loss = sft_loss(token_logprobs(torch.full((3, 4, 5), 2.5), TOKENS), MASK)
    assert_close(loss, torch.tensor(math.log(5)))


def test_gradient_is_model_less_data_on_true_tokens_and_exactly_0_elsewhere():
    logits = noise(3, 4, 5).requires_grad_()
    sft_loss(token_logprobs(logits, TOKENS), MASK).backward()
    data = torch.nn.functional.one_hot(TOKENS, 5)
    expected = (logits.detach().softmax(-1) - data) * MASK.unsqueeze(-1) / 7
    assert_close(logits.grad, expected)
    assert not logits.grad[~MASK].any()


def test_loss_is_the_same_for_padding_of_any_amount_on_either_side():
    logprobs = noise(3, 4)
    loss = sft_loss(logprobs, MASK)
    for amount in [(3, 0), (0, 3), (2, 1)]:
        assert_close(sft_loss(pad(logprobs, amount, value=9.0), pad(MASK, amount)), loss)


@pytest.mark.parametrize("garbage", [1e6, math.inf, -math.inf, math.nan])
def test_what_lies_off_the_mask_changes_neither_loss_nor_gradient(garbage):
    clean = noise(3, 4).requires_grad_()
    dirty = clean.detach().masked_fill(~MASK, garbage).requires_grad_()
    losses = [sft_loss(x, MASK) for x in (clean, dirty)]
    sum(losses).backward()
    assert_close(losses[1], losses[0])
    assert_close(dirty.grad, clean.grad)


def test_microbatches_weighted_by_their_tokens_give_the_gradient_of_the_batch_and_plain_means_do_not():
    def gradient(weights):
        logprobs = noise(3, 4).requires_grad_()
        rows = [sft_loss(logprobs[i : i + 1], MASK[i : i + 1]) for i in range(3)]
        sum(w * loss for w, loss in zip(weights, rows, strict=True)).backward()
        return logprobs.grad

    logprobs = noise(3, 4).requires_grad_()
    sft_loss(logprobs, MASK).backward()
    assert_close(gradient([4 / 7, 2 / 7, 1 / 7]), logprobs.grad)
    assert not torch.allclose(gradient([1 / 3, 1 / 3, 1 / 3]), logprobs.grad)


def test_descent_on_one_demonstration_learns_to_say_it_and_to_stop():
    logits = noise(1, 4, 5).requires_grad_()
    demonstration, mask = TOKENS[:1], MASK[:1]  # ends with token 0
    for _ in range(200):
        loss = sft_loss(token_logprobs(logits, demonstration), mask)
        (slope,) = torch.autograd.grad(loss, logits)
        logits.data -= 10.0 * slope
    assert loss < 0.01
    assert logits.argmax(-1).tolist() == demonstration.tolist()
