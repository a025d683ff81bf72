"""Products outside of metered layers are charged to the right role and phase, once, whatever runs around them."""

import copy

import pytest
import torch
from torch import nn
from transformers import Gemma2Config, Gemma2ForCausalLM, MambaConfig, MambaForCausalLM

from zoo_core.accounting.audit import ExactCounter
from zoo_core.accounting.meter import Meter
from zoo_core.accounting.products import PRODUCTS
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
