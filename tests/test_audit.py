"""The audit counts what an enumeration of products counts, and never ends what it watches."""

import pytest
import torch
from torch.nn import functional as F
from transformers import MixtralConfig, MixtralForCausalLM

from zoo_core.accounting import formulas
from zoo_core.accounting.audit import ExactCounter
from zoo_core.accounting.formulas import ATTENTION, FORMULAS
from zoo_core.accounting.meter import Meter

ROWS, HEADS, KEY_HEADS, QUERIES, KEYS, WIDTH, DEPTH = 2, 6, 2, 5, 7, 4, 3


def states(depth=DEPTH):
    query = torch.randn(ROWS, HEADS, QUERIES, WIDTH)
    return query, torch.randn(ROWS, KEY_HEADS, KEYS, WIDTH), torch.randn(ROWS, KEY_HEADS, KEYS, depth)


def enumerated(query, key, value, backward):
    """Multiply head by head, as attention is defined, and count the products."""
    total = 0
    for row in range(ROWS):
        for head in range(HEADS):
            q, k, v = query[row, head], *(some[row, head // (HEADS // KEY_HEADS)] for some in (key, value))
            shares = (q @ k.T).softmax(-1)
            gradient = torch.ones(QUERIES, value.shape[-1])
            with ExactCounter() as counter:
                if backward:
                    _ = q @ k.T, shares.T @ gradient, gradient @ v.T, shares @ k, shares.T @ q
                else:
                    _ = q @ k.T, shares @ v
            total += counter.total
    return total


@pytest.mark.parametrize("operator", ATTENTION, ids=str)
def test_every_fused_attention_is_its_products_counted_one_by_one_for_grouped_queries(operator):
    query, key, value = states()
    backward = str(operator).endswith("_backward")
    given = (torch.randn(ROWS, HEADS, QUERIES, DEPTH), query, key, value) if backward else (query, key, value)
    assert FORMULAS[operator](*given, out_val=None) == enumerated(query, key, value, backward)


def test_grouped_query_attention_that_runs_is_counted_whole():
    query, key, value = (some.requires_grad_() for some in states(depth=WIDTH))
    with ExactCounter() as forward:
        out = F.scaled_dot_product_attention(query, key, value, enable_gqa=True)
    with ExactCounter() as backward:
        out.sum().backward()
    assert forward.total == enumerated(query, key, value, backward=False)
    assert backward.total == enumerated(query, key, value, backward=True)
    assert forward.failed is backward.failed is None


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_a_convolution_costs_as_much_again_for_each_gradient_however_it_is_grouped(groups):
    layer, x = torch.nn.Conv1d(8, 8, 3, groups=groups), torch.randn(2, 8, 11, requires_grad=True)
    with ExactCounter() as forward:
        out = layer(x)
    with ExactCounter() as backward:
        out.sum().backward()
    assert forward.total == 2 * (2 * 8 * 9) * (8 // groups) * 3
    assert backward.total == 2 * forward.total


def test_experts_are_counted_for_the_tokens_that_they_are_given():
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = MixtralConfig(vocab_size=40, num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2, **shape)
    experts = MixtralForCausalLM(config).model.layers[0].mlp
    x = torch.randn(1, 10, 16, requires_grad=True)
    meter = Meter()
    meter.attach(experts, "policy")
    with ExactCounter() as counter:
        out = experts(x)
        out = out if isinstance(out, torch.Tensor) else out[0]
        out.sum().backward()
    # Two experts of three products for each of ten tokens, and a gate; forward once, backward twice.
    assert counter.total == meter.total == 3 * 2 * 10 * (2 * 3 * 16 * 24 + 16 * 4)


def test_a_formula_that_fails_is_reported_and_ends_nothing(monkeypatch):
    def broken(*_, **__):
        raise AssertionError("shapes are incompatible")

    monkeypatch.setitem(formulas.FORMULAS, torch.ops.aten.mm, broken)
    layer = torch.nn.Linear(3, 4, bias=False)
    with ExactCounter() as counter:
        out = layer(torch.ones(2, 3))
    assert out.shape == (2, 4)
    assert counter.failed == "aten.mm.default: AssertionError: shapes are incompatible"


FACTOR, BATCH = torch.randn(5, 5), torch.randn(3, 5, 5)
LSTM = torch.nn.LSTM(16, 8, 2, bidirectional=True)
ATTENDING = torch.nn.MultiheadAttention(16, 4, batch_first=True).eval()
ENCODER = torch.nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).eval()
INSIDE = 2 * 18 * 4 * 16 * 16 + 3 * 4 * 6 * 6 * 16  # four matrices for 18 tokens; scores and sums of 3 rows of 6 tokens


@pytest.mark.parametrize(
    ("compute", "flops"),
    [
        (lambda: FACTOR.mv(FACTOR[0]), 2 * 25),
        (lambda: FACTOR[0].dot(FACTOR[1]), 2 * 5),
        (lambda: torch.addmv(FACTOR[0], FACTOR, FACTOR[0]), 2 * 25),
        (lambda: torch.addbmm(FACTOR, BATCH, BATCH), 2 * 3 * 125),
        (lambda: torch.zeros(5, 5).addmm_(FACTOR, FACTOR), 2 * 125),
        (lambda: torch.zeros(3, 5, 5).baddbmm_(BATCH, BATCH), 2 * 3 * 125),
        (lambda: F.bilinear(torch.randn(7, 5), torch.randn(7, 6), torch.randn(4, 5, 6)), 2 * 7 * 4 * 5 * 6),
        (lambda: torch.cdist(FACTOR, torch.randn(7, 5)), 2 * 5 * 7 * 5),
        (lambda: torch.cdist(FACTOR, torch.randn(7, 5), p=1.0), 2 * 5 * 7 * 5),
        (
            lambda: LSTM(torch.randn(3, 6, 16)),
            2 * 18 * 4 * 32 * (16 + 8),
        ),  # four gates of 8; two layers, two directions
        (lambda: ATTENDING(*[torch.randn(3, 6, 16)] * 3), INSIDE),
        (lambda: ENCODER(torch.randn(3, 6, 16)), INSIDE + 2 * 18 * 2 * 16 * 32),
    ],
)
def test_products_of_every_kind_are_counted(compute, flops):
    with torch.no_grad(), ExactCounter() as counter:
        compute()
    assert (counter.total, counter.failed) == (flops, None)


def test_a_recurrent_layer_on_a_gpu_costs_what_it_costs_on_a_cpu():
    x = torch.randn(3, 6, 16)
    weights = [weight for weight in LSTM.parameters()]
    assert FORMULAS[torch.ops.aten._cudnn_rnn](x, weights, 4, None, out_val=None) == 2 * 18 * 4 * 32 * (16 + 8)
    assert FORMULAS[torch.ops.aten._cudnn_rnn_backward](x, weights, 4, None, out_val=None) == 4 * 18 * 4 * 32 * (16 + 8)


@torch.library.custom_op("zoo_test::hidden", mutates_args=())
def hidden(x: torch.Tensor) -> torch.Tensor:
    """Multiply where no mode can see it."""
    return x @ x


@pytest.mark.parametrize(
    ("compute", "name"),
    [
        (lambda: torch.linalg.inv(FACTOR), "aten.linalg_inv_ex"),
        (lambda: torch.linalg.svd(FACTOR), "aten._linalg_svd"),
        (lambda: torch.linalg.solve(FACTOR, FACTOR), "aten._linalg_solve_ex"),
        (lambda: torch.matrix_exp(FACTOR), "aten.linalg_matrix_exp"),
        (lambda: torch.fft.rfft(FACTOR), "aten._fft_r2c"),
        (lambda: torch.sparse.mm(FACTOR.to_sparse(), FACTOR), "aten._sparse"),
        (lambda: hidden(FACTOR), "zoo_test.hidden"),
    ],
)
def test_what_no_formula_counts_is_named_instead_of_counted_as_nothing(compute, name):
    with ExactCounter() as counter:
        compute()
    assert counter.failed.startswith(name)
    assert counter.failed.endswith("its FLOPs are not known")


def test_what_costs_nothing_is_not_called_unknown():
    x = torch.randn(6, 5, requires_grad=True)
    optimizer = torch.optim.AdamW([x], fused=True)
    with ExactCounter() as counter:
        F.cross_entropy(F.gelu(F.layer_norm(x, (5,))), torch.arange(6) % 5).backward()
        torch.nn.utils.clip_grad_norm_([x], 1.0)
        optimizer.step()
        x.softmax(-1).cumsum(0).sort().values.roll(1).norm().item()
    assert (counter.total, counter.failed) == (0, None)
