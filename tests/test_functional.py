"""The tensor functions that all losses stand on against hand-worked numbers, slow oracles and laws."""

import math

import pytest
import torch
from torch.testing import assert_close

from zoo_core.functional import (
    approximate_kl,
    clip_fraction,
    masked_mean,
    masked_row_mean,
    masked_sum,
    masked_whiten,
    minibatches,
    penalised_scores,
    replaced_scores,
    token_logprobs,
)
from zoo_core.testing.tensors import GARBAGE, noise, prefix, row

MASK = torch.tensor([[True, True, True, True], [True, True, False, False], [True, False, False, False]])


def tokens_like(logits):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(logits.shape[-1], logits.shape[:-1], generator=generator)


# Log-probabilities


def test_logprobs_of_the_worked_example_at_two_temperatures():
    # Weights 1 : 2 : 5, of which token 1 has 2/8; at temperature ½ they are squared, 4/30.
    logits, tokens = torch.tensor([[[1.0, 2.0, 5.0]]]).log(), torch.tensor([[1]])
    assert_close(token_logprobs(logits, tokens), torch.tensor([[2 / 8]]).log())
    assert_close(token_logprobs(logits, tokens, temperature=0.5), torch.tensor([[4 / 30]]).log())


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7])
def test_logprobs_match_their_definition_token_by_token(temperature):
    logits = 3 * noise(3, 4, 7)
    tokens = tokens_like(logits)
    actual = token_logprobs(logits, tokens, temperature)
    for i in range(3):
        for t in range(4):
            weights = [math.exp(z / temperature) for z in logits[i, t].tolist()]
            expected = math.log(weights[tokens[i, t]] / sum(weights))
            assert actual[i, t].item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_probabilities_over_the_vocabulary_sum_to_1():
    logits = noise(2, 3, 5)
    every = torch.stack([token_logprobs(logits, torch.full((2, 3), v), 0.7) for v in range(5)])
    assert_close(every.exp().sum(dim=0), torch.ones(2, 3))


def test_logprobs_are_computed_in_float32_from_the_logits_of_a_half_precision_model():
    logits = (3 * noise(3, 4, 7)).bfloat16()
    tokens = tokens_like(logits)
    actual = token_logprobs(logits, tokens, 0.7)
    assert actual.dtype == torch.float32
    assert_close(actual, token_logprobs(logits.float(), tokens, 0.7), rtol=0, atol=0)


def test_logprobs_of_logits_in_double_precision_are_in_double_precision_at_any_temperature():
    logits = 3 * noise(3, 4, 7).double()
    tokens = tokens_like(logits)
    for temperature in (1.0, 2.0):
        actual = token_logprobs(logits, tokens, temperature)
        expected = (logits / temperature).log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
        assert actual.dtype == torch.float64
        assert_close(actual, expected)


def test_logprobs_of_huge_logits_stay_finite():
    actual = token_logprobs(torch.tensor([[[1e4, -1e4, 1e4]]]), torch.tensor([[0]]))
    assert_close(actual, torch.tensor([[-math.log(2)]]), atol=1e-3, rtol=0)  # float32 keeps 3 decimals at 1e4


def test_gradient_of_a_logprob_is_the_token_less_the_model_over_the_temperature():
    logits = noise(2, 3, 5).requires_grad_()
    tokens = tokens_like(logits)
    token_logprobs(logits, tokens, 0.7).sum().backward()
    expected = (torch.nn.functional.one_hot(tokens, 5) - (logits / 0.7).softmax(-1)) / 0.7
    assert_close(logits.grad, expected.detach())


# Masked reductions


def test_masked_mean_weighs_tokens_not_sequences():
    # (1 + 2 + 3 + 6) / 4 = 3; the mean of the rows' means would be 4
    values = torch.tensor([[1.0, 2.0, 3.0], [6.0, 9.0, 9.0]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    assert_close(masked_mean(values, mask), torch.tensor(3.0))


def test_masked_sum_adds_up_each_row():
    values = torch.tensor([[1.0, 2.0, 3.5], [6.0, 9.0, 9.0], [1.0, 1.0, 1.0]])
    mask = torch.tensor([[True, True, True], [True, False, False], [False, False, False]])
    assert_close(masked_sum(values, mask), torch.tensor([6.5, 6.0, 0.0]))


def test_the_mean_of_one_value_is_that_value_and_the_mean_of_nothing_is_0():
    assert masked_mean(torch.tensor([[7.0, 2.5]]), torch.tensor([[False, True]])) == 2.5
    assert masked_mean(noise(2, 3), torch.zeros(2, 3, dtype=torch.bool)) == 0.0


def test_masked_row_mean_divides_each_sum_by_what_counts_in_its_row_and_is_0_where_nothing_does():
    # (1 + 2 + 6)/3, 6/1, 0/0
    values = torch.tensor([[1.0, 2.0, 6.0], [6.0, 9.0, 9.0], [9.0, 9.0, 9.0]])
    mask = torch.tensor([[True, True, True], [True, False, False], [False, False, False]])
    assert_close(masked_row_mean(values, mask), torch.tensor([3.0, 6.0, 0.0]))


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("reduction", [masked_mean, masked_sum, masked_row_mean])
def test_what_lies_off_the_mask_changes_no_reduction_and_no_gradient(reduction, garbage):
    clean = noise(3, 4).requires_grad_()
    dirty = clean.detach().masked_fill(~MASK, garbage).requires_grad_()
    reduced = [reduction(x, MASK) for x in (clean, dirty)]
    sum(x.square().sum() for x in reduced).backward()
    assert_close(reduced[1], reduced[0])
    assert_close(dirty.grad, clean.grad)


# Whitening


def test_whitening_uses_the_variance_of_the_population():
    # mean 3, variance (4 + 1 + 0 + 9) / 4 = 3.5
    values = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    actual = masked_whiten(values, torch.ones(2, 2, dtype=torch.bool))
    assert_close(actual, torch.tensor([[-1.069045, -0.534522], [0.0, 1.603567]]))


def test_whitening_adds_1e_8_to_the_variance():
    # mean 1e-4, variance 1e-8: ±1e-4 / √(2e-8) = ±.7071068
    actual = masked_whiten(torch.tensor([[0.0, 2e-4]]), torch.tensor([[True, True]]))
    assert_close(actual, torch.tensor([[-0.7071068, 0.7071068]]))


def test_whitened_values_have_mean_0_and_variance_1_on_the_mask_and_are_0_off_it():
    white = masked_whiten(3 * noise(3, 4) + 5, MASK)
    assert_close(white[MASK].mean(), torch.tensor(0.0), atol=1e-6, rtol=0)
    assert_close(white[MASK].var(correction=0), torch.tensor(1.0))
    assert not white[~MASK].any()


def test_equal_values_whiten_to_0():
    assert not masked_whiten(torch.full((3, 4), 2.5), MASK).any()


def test_whitening_undoes_scale_and_shift():
    values = noise(3, 4)
    assert_close(masked_whiten(4 * values - 3, MASK), masked_whiten(values, MASK))


@pytest.mark.parametrize("garbage", GARBAGE)
def test_what_lies_off_the_mask_changes_no_whitened_value(garbage):
    values = noise(3, 4)
    assert_close(masked_whiten(values.masked_fill(~MASK, garbage), MASK), masked_whiten(values, MASK))


# What was cut off


SCORES, ENDED = torch.tensor([0.7, 2.5, -3.0]), torch.tensor([True, False, False])


def test_only_responses_that_were_cut_off_lose_the_penalty():
    assert_close(penalised_scores(SCORES, ENDED, 0.75), torch.tensor([0.7, 1.75, -3.75]))


def test_only_responses_that_were_cut_off_get_the_constant_instead_of_their_score():
    assert_close(replaced_scores(SCORES, ENDED, -1.0), torch.tensor([0.7, -1.0, -1.0]))


# Minibatches


def test_minibatches_visit_every_row_once_and_only_the_last_may_be_short():
    batches = list(minibatches(10, 4, torch.Generator().manual_seed(0)))
    assert [len(rows) for rows in batches] == [4, 4, 2]
    assert sorted(torch.cat(batches).tolist()) == list(range(10))


def test_minibatches_are_shuffled_anew_in_each_pass_and_repeat_with_the_seed():
    def passes(seed):
        generator = torch.Generator().manual_seed(seed)
        return [torch.cat(list(minibatches(50, 8, generator))).tolist() for _ in range(2)]

    first, second = passes(0)
    assert len({tuple(order) for order in (first, second, range(50), passes(1)[0])}) == 4
    assert passes(0) == [first, second]


def test_minibatches_leave_the_global_generator_alone():
    state = torch.get_rng_state()
    list(minibatches(10, 4, torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), state)


# How far a policy moved


def test_clip_fraction_counts_tokens_outside_the_range_on_either_side():
    old = row(-1.0, -2.0, -0.5, -0.3, -1.0)
    logprobs = old + row(1.3, 1.1, 0.7, 0.5, 9.0).log()
    assert_close(clip_fraction(logprobs, old, prefix(4, of=5), clip_range=0.2), torch.tensor(3 / 4))


def test_a_token_at_the_edge_of_the_range_is_inside_it():
    assert clip_fraction(row(-1.0), row(-1.0), prefix(1, of=1), clip_range=0.0) == 0.0


def test_approximate_kl_is_half_the_mean_squared_log_ratio():
    old = row(-1.0, -2.0, -0.5)
    actual = approximate_kl(old + row(0.2, -0.4, 9.0), old, prefix(2, of=3))
    assert_close(actual, torch.tensor(0.5 * (0.04 + 0.16) / 2))


def test_approximate_kl_of_the_worked_example_shows_its_bias():
    # The tokens of the exact KL .223805 above; ½ E (log p/q)² = .265479.
    log_ratio = torch.tensor([0.5 / 0.2] * 5 + [0.3 / 0.5] * 3 + [0.2 / 0.3] * 2).log().unsqueeze(0)
    actual = approximate_kl(torch.zeros(1, 10), log_ratio, prefix(10, of=10))
    assert_close(actual, torch.tensor(0.26547879))


METRICS = {
    "clip fraction": lambda x, y, mask: clip_fraction(x, y, mask, clip_range=0.2),
    "approximate KL": lambda x, y, mask: approximate_kl(x, y, mask),
}


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("metric", METRICS)
def test_what_lies_off_the_mask_changes_no_metric(metric, garbage):
    x, y = noise(3, 4), noise(3, 4, seed=1)
    dirty = METRICS[metric](x.masked_fill(~MASK, garbage), y, MASK)
    assert_close(dirty, METRICS[metric](x, y, MASK))
