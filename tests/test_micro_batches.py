"""Micro-batches: how rows are divided, and that results and gradients are those of the whole batch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoo_core.accounting.meter import Meter
from zoo_core.compute.micro_batches import forward_pass, halve_micro_batch, micro_batches, save_memory
from zoo_core.errors import ModelError
from zoo_core.models.lora import adapter, add_adapter
from zoo_core.rollout import Responses, response_logprobs, response_states
from zoo_core.testing.tiny import tiny_policy

ROWS = st.lists(
    st.tuples(st.sampled_from([(), (1,), (1, 2, 3), (4, 4, 4, 4)]), st.lists(st.just(9), min_size=1, max_size=6)),
    min_size=1,
    max_size=12,
)


def ragged():
    rows = [([3, 4, 5], [6, 7]), ([3, 4, 5], [8]), ([9], [4, 4, 4, 5]), ([3], [5, 6, 7]), ([3, 4, 5], [7, 7, 7])]
    return Responses.of(rows, 0, torch.device("cpu"))


@pytest.fixture(autouse=True)
def as_before():
    yield
    save_memory()


@given(ROWS, st.integers(1, 30))
def test_micro_batches_hold_every_row_once_and_no_more_tokens_than_asked_for_or_one_row(rows, tokens):
    parts = micro_batches(rows, tokens)
    assert sorted(row for part in parts for row in part) == list(range(len(rows)))
    for part in parts:
        computed = sum(map(len, {shared for shared, _ in (rows[row] for row in part)}))
        computed += sum(len(rows[row][1]) for row in part)
        assert computed <= tokens or len(part) == 1


def test_rows_with_one_prompt_stay_together_where_they_fit():
    first, second = ((1, 2, 3, 4), [7, 7]), ((5, 6, 7, 8), [7, 7])
    assert micro_batches([first, second, first, second], 8) == [[0, 2], [1, 3]]
    assert micro_batches([first, second, first, second], 20) == [[0, 2, 1, 3]]
    assert micro_batches([first, second, first, second], 7) == [[0], [2], [1], [3]]


def test_rows_without_a_gradient_are_divided_and_computed_once():
    batch, policy, meter = ragged(), tiny_policy(), Meter()
    meter.attach(policy, "policy")
    calls = []
    policy.register_forward_pre_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        expected = response_logprobs(policy, batch)
        save_memory(1)
        found = response_logprobs(policy, batch)
    torch.testing.assert_close(found, expected)
    assert len(calls) == 1 + len(batch)
    assert {phase for _, phase in meter.cells} == {"prepare"}


def test_a_pass_is_repeated_with_the_adapter_that_was_active_and_leaves_the_one_after():
    def gradients(micro_batch):
        save_memory(micro_batch)
        torch.manual_seed(0)
        policy = tiny_policy()
        trained = [*add_adapter(policy, "critic", 2), *add_adapter(policy, "policy", 2)]
        for weight in trained:
            weight.requires_grad_(True)
            torch.nn.init.normal_(weight, std=0.1)
        with adapter(policy, "critic"):
            states = response_states(policy.base_model, ragged())
        (states.pow(2).mean() + response_logprobs(policy, ragged()).mean()).backward()
        return [weight.grad for weight in trained]

    for found, expected in zip(gradients(1), gradients(None), strict=True):
        torch.testing.assert_close(found, expected)


def test_results_that_are_of_no_float_keep_their_type():
    save_memory(1)
    batch, policy = ragged(), tiny_policy()
    lengths, logprobs = forward_pass(lambda some: (some.mask.sum(1), response_logprobs(policy, some)), batch, policy)
    assert lengths.tolist() == batch.mask.sum(1).tolist()
    torch.testing.assert_close(logprobs, response_logprobs(policy, batch))


def test_layers_that_cannot_be_computed_again_are_refused_with_what_to_do():
    save_memory(gradient_checkpointing=True)
    model = torch.nn.Linear(2, 2)
    with pytest.raises(ModelError, match="gradient_checkpointing: Linear has no layers"):
        forward_pass(lambda some: model(torch.ones(len(some), 2)), ragged(), model)


def test_the_largest_pass_is_halved_until_every_pass_has_one_row():
    batch, policy = ragged(), tiny_policy()  # 18 tokens: the prompt 3 4 5 once, 9, 3, and 13 of answers
    response_logprobs(policy, batch)
    halved = []
    while (tokens := halve_micro_batch()) is not None:
        halved.append(tokens)
        response_logprobs(policy, batch)
    assert halved == [9, 4]
    assert all(len(part) == 1 for part in micro_batches(batch.rows, halved[-1]))


def test_nothing_is_halved_where_nothing_was_computed():
    assert halve_micro_batch() is None


def test_a_micro_batch_of_no_tokens_is_refused():
    with pytest.raises(ValueError, match="micro_batch=0 must be 1 or more"):
        save_memory(0)
