"""Attention as GPUs compute it, all rows in one call, on the CPU: the values and gradients of the plain path."""

import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from torch.testing import assert_close

from zoo_core.accounting import attention, formulas
from zoo_core.accounting.audit import ExactCounter
from zoo_core.accounting.formulas import FORMULAS
from zoo_core.accounting.meter import Meter
from zoo_core.compute import packing, precision, row_attention
from zoo_core.compute.packing import Packing, TokenRow
from zoo_core.compute.placing import Placing, put, spread
from zoo_core.models.scorer import row_scores
from zoo_core.rollout import Responses, logprobs_and_states, response_logprobs, response_states, text_states
from zoo_core.run import Run
from zoo_core.testing.families import PACKED, model_of
from zoo_core.testing.tiny import tiny_session

CPU = torch.device("cpu")


def ragged(seed: int, most: int = 9) -> list[TokenRow]:
    """Rows of 1 to 20 tokens in groups that share a prompt, groups apart from one another; some without a response."""
    drawn = random.Random(seed)

    def tokens(fewest: int) -> list[int]:
        return [drawn.randrange(3, 40) for _ in range(drawn.randint(fewest, most))]

    prompts = [[1, *tokens(0)] for _ in range(4)]
    return [(drawn.choice(prompts), tokens(0)) for _ in range(11)] + [([1], [])]


def by_rows(q: Tensor, k: Tensor, v: Tensor, begins: Tensor, _: Tensor, *__: object, **settings: object) -> Tensor:
    """What torch's `varlen_attn` computes, row after row; its operators run on GPUs only."""
    grouped = {"enable_gqa": bool(settings.get("enable_gqa"))}
    found = []
    for begin, end in zip(begins.tolist(), begins.tolist()[1:], strict=False):
        row = [states[begin:end].transpose(0, 1).unsqueeze(0) for states in (q, k, v)]
        scale = settings["scale"]
        assert scale is None or isinstance(scale, float)
        found.append(scaled_dot_product_attention(*row, is_causal=True, scale=scale, **grouped)[0].transpose(0, 1))
    return torch.cat(found)


@pytest.fixture(params=["padded", "end to end"])
def at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention in one call; both of its kinds."""
    monkeypatch.setattr(packing, "AT_ONCE", {"cpu"})
    monkeypatch.setattr(row_attention, "MOST_PADDING", float("inf") if request.param == "padded" else 0.0)

    def stand_in(grouped: bool, dtype: torch.dtype) -> Callable[..., Tensor]:
        return lambda *states, **settings: by_rows(*states, **settings, enable_gqa=grouped)

    monkeypatch.setattr(row_attention, "attention_over_rows", stand_in)


def everything(model: nn.Module, batch: Responses) -> list[Tensor]:
    """All that a forward pass is asked for, and the gradients of all weights."""
    model.zero_grad()
    logprobs, states = response_logprobs(model, batch, 0.7), response_states(model.base_model, batch)
    both, (text, _) = logprobs_and_states(model, batch, 0.7), text_states(model.base_model, batch)
    weights = torch.rand(batch.mask.shape, generator=torch.Generator().manual_seed(1))
    (
        (logprobs * weights).sum() + states.pow(2).sum() + both[0].sin().sum() + both[1].sum() + text.cos().sum()
    ).backward()
    return [logprobs, states, *both, text, *(weight.grad for weight in model.parameters() if weight.grad is not None)]


@pytest.mark.parametrize("kind", PACKED)
def test_all_rows_at_once_have_the_values_and_gradients_of_rows_by_length(
    kind: str, at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = model_of(kind), Responses.of(ragged(len(kind)), 0, CPU)
    found = everything(model, batch)
    monkeypatch.setattr(packing, "AT_ONCE", set())
    for one, plain in zip(found, everything(model, batch), strict=True):
        assert_close(one, plain, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "gpt2", "gpt_neox", "gemma", "opt"])
def test_bf16_differs_from_rows_by_length_by_no_more_than_bf16_does_from_fp32(
    kind: str, at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = model_of(kind), Responses.of(ragged(7), 0, CPU)
    monkeypatch.setattr(precision, "_precision", "bf16")
    found = response_logprobs(model, batch)
    monkeypatch.setattr(packing, "AT_ONCE", set())
    plain = response_logprobs(model, batch)
    monkeypatch.setattr(precision, "_precision", "fp32")
    exact = response_logprobs(model, batch)
    assert 0 < (found - exact).abs().mean() < 1.5 * (plain - exact).abs().mean() < 0.1


def test_scores_of_texts_are_the_same(at_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo_core.models.copies import scorer_from

    scorer, rows = scorer_from(model_of("qwen2"), 0), ragged(3)[:-1]
    found = row_scores(scorer, rows)
    monkeypatch.setattr(packing, "AT_ONCE", set())
    assert_close(found, row_scores(scorer, rows), rtol=1e-4, atol=1e-5)


def test_the_meter_charges_what_an_exact_count_counts(at_once: None) -> None:
    model, batch, meter = model_of("qwen2"), Responses.of(ragged(5), 0, CPU), Meter()
    meter.attach(model, "policy")
    with ExactCounter() as counter:
        response_logprobs(model, batch).sum().backward()
    assert meter.total == counter.total > 0


def test_padding_is_charged_and_rows_end_to_end_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Packing.of([([], [1, 2, 3, 4]), ([], [5]), ([], [6, 7])], CPU)
    states = torch.rand(1, 2, 7, 8)
    monkeypatch.setattr(packing, "AT_ONCE", {"cpu"})
    monkeypatch.setattr(row_attention, "attention_over_rows", lambda *_: by_rows)
    attend = lambda: rows.attend(scaled_dot_product_attention, nn.Module(), states, states, states)  # noqa: E731
    # 3 rows of 4 columns are 48 pairs; without padding 16 + 1 + 4 = 21, less than half.
    assert attend()[1] == 21
    monkeypatch.setattr(row_attention, "MOST_PADDING", 3.0)
    assert attend()[1] == 48


@pytest.mark.parametrize(("heads", "of_keys"), [(4, 4), (4, 2), (6, 1)])
def test_one_call_takes_grouped_heads_in_any_precision(heads: int, of_keys: int, at_once: None) -> None:
    rows = Packing.of(ragged(2), CPU)
    count = rows.tokens.shape[1]
    query = torch.randn(1, heads, count, 8, dtype=torch.float32)
    key, value = torch.randn(2, 1, of_keys, count, 8).unbind()
    wide = [states.repeat_interleave(heads // of_keys, 1) for states in (key, value)]
    single = rows.attend(scaled_dot_product_attention, nn.Module(), query, *wide, scaling=0.3)[0]
    for dtype, near in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
        found = rows.attend(
            scaled_dot_product_attention, nn.Module(), *(s.to(dtype) for s in (query, key, value)), scaling=0.3
        )
        assert_close(found[0].float(), single, rtol=near, atol=near)


def test_torchs_attention_over_rows_is_taken_for_half_precision_only() -> None:
    assert row_attention.attention_over_rows(grouped=False, dtype=torch.float32) is None
    assert row_attention.attention_over_rows(grouped=True, dtype=torch.bfloat16) is not None
    assert FORMULAS[torch.ops.torch_attn._varlen_attn] is formulas.rows
    assert FORMULAS[torch.ops.torch_attn._varlen_attn_backward] is formulas.rows_backward


def test_the_formulas_of_rows_count_every_pair_of_every_row() -> None:
    q, k, v, begins = torch.rand(7, 4, 8), torch.rand(7, 2, 8), torch.rand(7, 2, 8), torch.tensor([0, 4, 5, 7])
    # 16 + 1 + 4 pairs for each of 4 heads: a score and a sum over values of width 8, each 2 FLOPs.
    assert formulas.rows(q, k, v, begins, begins, 4, 4) == 4 * 21 * 2 * (8 + 8)
    # Backward the scores again, and two products each by keys and values.
    assert formulas.rows_backward(q, q, k, v, q, q, begins, begins, 4, 4) == 4 * 21 * 2 * (3 * 8 + 2 * 8)


def test_values_are_laid_out_and_collected_with_exact_gradients() -> None:
    # Value 0 stands at places 0, 3 and 5, value 1 at place 1, value 2 at places 4 and 6; place 2 is empty.
    placing = Placing.of(torch.tensor([0, 1, 0, 2, 0, 2]).numpy(), 3, torch.tensor([0, 1, 3, 4, 5, 6]).numpy(), 7, CPU)
    values = torch.rand(3, 2, dtype=torch.float64, requires_grad=True)
    laid = placing.lay_out(values)
    assert torch.equal(laid[[0, 1, 3, 4, 5, 6]], values[[0, 1, 0, 2, 0, 2]])
    assert torch.equal(placing.collect(laid), values)
    weights = torch.rand(7, 1, dtype=torch.float64).index_fill(0, torch.tensor(2), 0.0)
    assert torch.autograd.gradcheck(lambda some: placing.lay_out(some) * weights, values)
    assert torch.autograd.gradcheck(placing.collect, torch.rand(7, 2, dtype=torch.float64, requires_grad=True))


def test_values_fill_a_grid_row_by_row_with_zeros_elsewhere() -> None:
    values = torch.arange(1.0, 6.0, requires_grad=True)
    grid = spread(values, [2, 0, 3], 4, starts=[1, 0, 0])
    assert grid.tolist() == [[0, 1, 2, 0], [0, 0, 0, 0], [3, 4, 5, 0]]
    (grid * torch.arange(12.0).view(3, 4)).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [1, 2, 8, 9, 10]
    assert spread(torch.rand(0, 3), [0, 0], 2).tolist() == torch.zeros(2, 2, 3).tolist()
    with pytest.raises(ValueError, match="5 values cannot fill 4 places"):
        spread(values, [1, 3], 4)


@pytest.mark.parametrize("warns", [True, False])
def test_writing_to_places_leaves_the_deterministic_mode_as_it_was(warns: bool) -> None:
    torch.use_deterministic_algorithms(True, warn_only=warns)
    try:
        assert put(torch.zeros(3), torch.tensor([2, 0]), torch.tensor([5.0, 7.0])).tolist() == [7, 0, 5]
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled() is warns
    finally:
        torch.use_deterministic_algorithms(False)


def test_attention_that_keeps_its_scores_is_noted_where_it_should_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "FUSES", {"cpu"})
    notes = []
    for kernels in ([SDPBackend.FLASH_ATTENTION], [SDPBackend.MATH]):
        session = tiny_session(("demonstrations",), budget=1e15)
        run = Run(session)
        for update in run.updates(most=1):
            with sdpa_kernel(kernels):
                batch = run.demonstrations.batch(update, 4)
                response_logprobs(run.policy, batch).sum().backward()
        notes.append(session.ledger.report()["flags"])
    assert notes[0] == []
    assert notes[1] == [
        "attention kept all its scores: torch has no fused attention for heads of width 16 in float32 here"
    ]
