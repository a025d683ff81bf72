"""Products outside of metered layers are charged to the right role and phase, once, whatever runs around them."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import Gemma2Config, Gemma2ForCausalLM, MambaConfig, MambaForCausalLM

from zoo_core.accounting.audit import ExactCounter
from zoo_core.accounting.meter import Meter
from zoo_core.accounting.products import FACTORS, PRODUCTS, WHOLE
from zoo_core.errors import ModelError
from zoo_core.models.lora import add_adapter
from zoo_core.testing.tiny import tiny_policy

TOKENS = torch.randint(6, 37, (3, 11), generator=torch.Generator().manual_seed(0))


def gemma2():
    torch.manual_seed(0)
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "sliding_window": 4}
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "query_pre_attn_scalar": 8}
    return Gemma2ForCausalLM(Gemma2Config(vocab_size=40, attn_implementation="eager", **heads, **shape)).train()


def mamba():
    torch.manual_seed(0)
    return MambaForCausalLM(MambaConfig(vocab_size=40, hidden_size=16, state_size=4, num_hidden_layers=2)).train()


def loss_of(model):
    return model(input_ids=TOKENS, use_cache=False).logits.square().mean()


def agree(meter, compute):
    """Assert that the meter charges what the audit counts, and that nothing is watched any more."""
    before = meter.total
    with ExactCounter() as counter:
        compute()
    assert meter.total - before == pytest.approx(counter.total, rel=1e-9)
    assert PRODUCTS.inside == []
    return counter.total


def attached(model, role="policy"):
    meter = Meter()
    meter.attach(model, role)
    return meter


both = pytest.mark.parametrize("make", [gemma2, mamba])


@both
def test_gradient_checkpointing_pays_for_its_second_forward(make):
    plain, model = make(), make()
    once = agree(attached(plain), lambda: loss_of(plain).backward())
    model.activation_checkpointing_enable({"use_reentrant": False})
    assert agree(attached(model), lambda: loss_of(model).backward()) > 1.1 * once


def test_adapters_and_frozen_weights_are_charged_what_they_compute():
    model = gemma2()
    meter = attached(model)
    add_adapter(model, "lora", 2)
    meter.attach_again()
    agree(meter, lambda: loss_of(model).backward())


def test_an_architecture_that_cannot_be_given_adapters_says_so():
    with pytest.raises(ModelError, match=r"MambaForCausalLM: cannot be given adapters.*out_proj"):
        add_adapter(mamba(), "lora", 2)


@both
def test_a_copied_body_charges_its_own_role(make):
    model = make()
    meter = attached(model)
    critic = nn.Sequential()
    critic.body = copy.deepcopy(model.base_model)
    meter.attach(critic, "critic")
    agree(meter, lambda: critic.body(TOKENS, use_cache=False).last_hidden_state.sum().backward())
    assert {role for role, _ in meter.cells} == {"critic"}


@both
def test_products_are_booked_in_the_phase_they_are_computed_in(make):
    model = make()
    meter = attached(model)
    meter.in_loop = True
    with meter.during("sample"), torch.no_grad():
        loss_of(model)
    loss = loss_of(model)
    with torch.no_grad():
        loss.backward()
    assert meter.cells["policy", "train"] > 2.5 * meter.cells["policy", "sample"]


@both
def test_counting_changes_no_bit_of_any_gradient(make):
    def gradients(meter):
        model = make()
        if meter:
            attached(model)
        loss_of(model).backward()
        return [weight.grad for weight in model.parameters() if weight.grad is not None]

    assert all(torch.equal(one, other) for one, other in zip(gradients(True), gradients(False), strict=True))


@both
def test_a_forward_pass_that_fails_is_watched_no_longer(make):
    model = make()
    attached(model)
    with pytest.raises(IndexError):
        model(input_ids=TOKENS + 100)
    assert PRODUCTS.inside == []


def test_a_model_of_linear_layers_and_fused_attention_counts_itself():
    model = tiny_policy()
    attached(model)
    assert not any(hasattr(part, "_zoo_watched") for part in model.modules())


class Once(nn.Module):
    """A layer of one function, of a weight of two or more dimensions and an input."""

    def __init__(self, compute, *shape):
        super().__init__()
        self.compute, self.weight = compute, nn.Parameter(torch.randn(shape))

    def forward(self, x):
        return self.compute(self.weight, x)


CASES = {
    "matmul": (torch.matmul, (4, 6, 5), (5,)),
    "rmatmul": (lambda weight, x: x.__rmatmul__(weight), (6, 5), (5, 7)),
    "mm": (torch.mm, (6, 5), (5, 7)),
    "bmm": (torch.bmm, (3, 6, 5), (3, 5, 7)),
    "mv": (torch.mv, (6, 5), (5,)),
    "dot": (lambda weight, x: weight[0].dot(x), (2, 5), (5,)),
    "vdot": (lambda weight, x: weight[0].vdot(x), (2, 5), (5,)),
    "inner": (torch.inner, (6, 5), (7, 5)),
    "cdist": (torch.cdist, (6, 5), (7, 5)),
    "linear": (lambda weight, x: F.linear(x, weight), (6, 5), (7, 5)),
    "conv1d": (lambda weight, x: F.conv1d(x, weight), (6, 5, 3), (2, 5, 9)),
    "conv2d": (lambda weight, x: F.conv2d(x, weight), (6, 5, 3, 3), (2, 5, 9, 9)),
    "conv3d": (lambda weight, x: F.conv3d(x, weight), (6, 5, 3, 3, 3), (2, 5, 5, 5, 5)),
    "conv_transpose1d": (lambda weight, x: F.conv_transpose1d(x, weight), (5, 6, 3), (2, 5, 9)),
    "addmm": (lambda weight, x: torch.addmm(torch.ones(7), weight, x), (6, 5), (5, 7)),
    "addmv": (lambda weight, x: torch.addmv(torch.ones(6), weight, x), (6, 5), (5,)),
    "addbmm": (lambda weight, x: torch.addbmm(torch.ones(6, 7), weight, x), (3, 6, 5), (3, 5, 7)),
    "baddbmm": (lambda weight, x: torch.zeros(3, 6, 7).baddbmm_(weight, x), (3, 6, 5), (3, 5, 7)),
    "einsum": (lambda weight, x: torch.einsum("ij,jk->ik", weight, x), (6, 5), (5, 7)),
    "tensordot": (lambda weight, x: torch.tensordot(weight, x, 1), (6, 5), (5, 7)),
    "bilinear": (lambda weight, x: F.bilinear(x, 2 * x, weight), (4, 5, 5), (7, 5)),
    "scaled_dot_product_attention": (
        lambda weight, x: F.scaled_dot_product_attention(x, weight, weight),
        (2, 2, 5, 8),
        (2, 2, 4, 8),
    ),
    "solve_triangular": (
        lambda weight, x: torch.linalg.solve_triangular(weight + 9 * torch.eye(5), x, upper=True),
        (5, 5),
        (5, 7),
    ),
}


@pytest.mark.parametrize("needed", [False, True], ids=["of a weight", "of a weight and an input"])
@pytest.mark.parametrize("name", CASES)
def test_every_function_that_multiplies_is_charged_as_it_is_counted_forward_and_backward(name, needed):
    compute, weight, x = CASES[name]
    model = Once(compute, *weight)
    assert agree(attached(model), lambda: model(torch.randn(x)).sum()) > 0
    assert agree(attached(model), lambda: model(torch.randn(x).requires_grad_(needed)).sum().backward()) > 0


def test_no_function_that_multiplies_is_untried():
    other_names = {"grouped_mm", "linalg_solve_triangular"}  # of experts (test_audit.py), and of torch.linalg
    assert set(FACTORS) == set(CASES) | other_names


LAYERS = {
    "LSTM": (lambda: nn.LSTM(16, 8, 2, bidirectional=True), (3, 6, 16)),
    "GRU": (lambda: nn.GRU(16, 8), (24, 6, 16)),
    "RNN": (lambda: nn.RNN(16, 8), (24, 6, 16)),
    "RNN relu": (lambda: nn.RNN(16, 8, nonlinearity="relu"), (24, 6, 16)),
    "attention": (lambda: nn.MultiheadAttention(16, 4, batch_first=True), (3, 6, 16)),
    "encoder": (lambda: nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), (3, 6, 16)),
}


class Layer(nn.Module):
    """A layer of torch that computes several products in one call."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x, x, x) if isinstance(self.layer, nn.MultiheadAttention) else self.layer(x)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_torch_are_charged_what_they_compute(name):
    make, shape = LAYERS[name]
    model = Layer(make())
    meter = attached(model)

    def out():
        found = model(torch.randn(shape, requires_grad=True))
        return found[0] if isinstance(found, tuple) else found

    with torch.no_grad():
        agree(meter, lambda: out())
        model.eval()
        assert agree(meter, lambda: out()) > 0
    before = meter.total
    model.train()
    with ExactCounter() as counter:
        out().sum().backward()
    assert meter.total - before == pytest.approx(
        counter.total, rel=0.03
    )  # the first state's gradient; attention's scores


def test_a_recurrent_layer_is_charged_once_by_whichever_of_its_outputs_a_loss_takes():
    model = Layer(nn.GRU(16, 8))
    meter = attached(model)
    totals = []
    for loss in (
        lambda all_, last: all_.sum(),
        lambda all_, last: last.sum(),
        lambda all_, last: all_.sum() + last.sum(),
    ):
        before = meter.total
        loss(*model(torch.randn(24, 6, 16, requires_grad=True))).backward()
        totals.append(meter.total - before)
    assert totals == [totals[0]] * 3
    assert totals[0] > 0


def test_cells_of_recurrent_layers_are_charged():
    for cell in (nn.LSTMCell(16, 8), nn.GRUCell(16, 8), nn.RNNCell(16, 8), nn.RNNCell(16, 8, nonlinearity="relu")):
        model = Layer(cell)
        with torch.no_grad():
            assert agree(attached(model), lambda model=model: model(torch.randn(6, 16))) > 0


def test_every_layer_that_torch_computes_whole_is_named():
    names = {name.strip("_") for name in dir(torch) if name.startswith(("lstm", "gru", "rnn_"))}
    assert names | {
        "multi_head_attention_forward",
        "native_multi_head_attention",
        "transformer_encoder_layer_fwd",
    } == set(WHOLE)
