"""The meter charges exactly what runs, and counting changes no bit."""

import copy
import warnings

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DynamicCache,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
)

from zoo_core.accounting.audit import ExactCounter
from zoo_core.accounting.meter import Meter, MeteredLinear
from zoo_core.compute.sampler import sample_cached
from zoo_core.models.copies import scorer_from
from zoo_core.rollout import response_logprobs
from zoo_core.testing.tiny import tiny_encoder, tiny_policy

TOKENS = torch.randint(6, 37, (3, 11), generator=torch.Generator().manual_seed(0))
ATTENTION = torch.ones_like(TOKENS)
ATTENTION[0, :4] = 0


def policy(**settings):
    return tiny_policy(**settings).train()


def attached(model, role="policy"):
    meter = Meter()
    meter.attach(model, role)
    return meter


def agree(meter, compute):
    """Assert that the meter charges what the exact counter counts; return the FLOPs."""
    before = meter.total
    with ExactCounter() as counter:
        compute()
    assert counter.total > 0
    assert meter.total - before == pytest.approx(counter.total, rel=1e-9)
    return counter.total


def loss_of(model):
    return model(input_ids=TOKENS, attention_mask=ATTENTION).logits.square().mean()


def train_step(model):
    return lambda: loss_of(model).backward()


def test_a_train_step_costs_three_times_its_linear_layers_forward_and_more_for_attention():
    model = policy()
    meter = attached(model)
    with torch.no_grad():
        forward = agree(meter, lambda: loss_of(model))
    whole = agree(meter, train_step(model))
    # Attention: 2 layers x 4·B·H·T²·D forward, 2.5 times that backward. Embeddings give the first layer no gradient
    # to spare: their output requires one. Everything else goes forward once and backward twice.
    attention = 2 * 4 * 3 * 2 * 11**2 * 16
    assert whole == 3 * (forward - attention) + 3.5 * attention


def test_the_linear_formula_is_two_multiply_adds_for_input_weight_and_output():
    layer = nn.Linear(5, 7)
    meter = attached(layer)
    layer(torch.ones(2, 3, 5))
    assert meter.total == 2 * (2 * 3) * 5 * 7


def test_a_forward_that_is_never_followed_by_a_backward_is_charged_once():
    model = policy()
    agree(attached(model), lambda: loss_of(model))


def test_cached_generation():
    model, encoder = policy().eval(), tiny_encoder()
    prompts = encoder.prompts(["ab", "abcdef"])
    meter = attached(model)
    settings = {"response_tokens": 6, "temperature": 1.0, "eos": 2, "pad": 0, "generator": torch.Generator()}
    agree(meter, lambda: sample_cached(model, prompts, **settings))


def test_generation_by_transformers():
    model = policy().eval()
    agree(attached(model), lambda: model.generate(TOKENS, attention_mask=ATTENTION, max_new_tokens=4, do_sample=False))


def test_a_frozen_layer_is_charged_no_weight_gradient():
    model = policy()
    everything = agree(attached(model), train_step(model))
    model.zero_grad()
    model.model.embed_tokens.requires_grad_(False)
    model.model.layers[0].requires_grad_(False)
    assert agree(attached(model), train_step(model)) < 0.85 * everything


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_pays_for_its_second_forward(reentrant):
    plain = policy()
    once = agree(attached(plain), train_step(plain))
    model = policy(use_cache=False)
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    if reentrant:
        model.enable_input_require_grads()
    assert agree(attached(model), train_step(model)) > 1.1 * once


@pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)  # peft asks by the old name
def test_lora_with_its_adapter_on_and_off():
    model = policy()
    meter = attached(model)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj", "down_proj"]))
    meter.attach_again()
    agree(meter, train_step(adapted))
    with adapted.disable_adapter(), torch.no_grad():
        off = agree(meter, lambda: loss_of(adapted))
    with torch.no_grad():
        assert agree(meter, lambda: loss_of(adapted)) > off


def test_gpt_2_with_its_transposed_layers():
    shape = {"vocab_size": 40, "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2, "attn_pdrop": 0.0}
    model = GPT2LMHeadModel(GPT2Config(**shape, attn_implementation="sdpa", bos_token_id=1, eos_token_id=2))
    meter = attached(model)
    agree(meter, train_step(model))


def test_a_bert_scorer():
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    model = BertForSequenceClassification(
        BertConfig(vocab_size=40, num_labels=1, attention_probs_dropout_prob=0.0, attn_implementation="sdpa", **shape)
    )
    agree(attached(model), train_step(model))


def test_logits_of_the_response_only_cost_less_than_all():
    model, encoder = policy(), tiny_encoder()
    responses = encoder.responses([("abcdefgh", "ab"), ("a", "abc")])
    meter = attached(model)
    few = agree(meter, lambda: response_logprobs(model, responses).sum().backward())
    full = agree(meter, lambda: model(**responses.inputs).logits.sum().backward())
    assert few < full


def test_a_copied_body_charges_the_meter_of_the_original_under_its_own_role():
    model = policy()
    meter = attached(model)
    critic = nn.Sequential()
    critic.body, critic.head = copy.deepcopy(model.model), nn.Linear(32, 1)
    meter.attach(critic, "critic")
    agree(meter, lambda: critic.head(critic.body(TOKENS).last_hidden_state).sum().backward())
    assert {role for role, _ in meter.cells} == {"critic"}
    agree(meter, train_step(model))
    assert {role for role, _ in meter.cells} == {"critic", "policy"}


def test_a_reward_models_scorer():
    model = scorer_from(policy(), seed=0)
    agree(attached(model), train_step(model))


def test_a_head_on_detached_features_sends_nothing_back():
    model, head = policy(), nn.Linear(32, 1)
    meter = attached(model)
    meter.attach(head, "head")

    def compute():
        head(model.model(TOKENS).last_hidden_state.detach()).sum().backward()

    agree(meter, compute)
    assert meter.cells["head", "prepare"] == 2 * (2 * TOKENS.numel() * 32)


def test_attaching_again_charges_nothing_twice():
    model = policy()
    meter = attached(model)
    meter.attach(model, "policy")
    meter.attach_again()
    agree(meter, train_step(model))


def test_compute_that_bypasses_the_layers_is_what_the_audit_finds():
    model = policy()
    meter = attached(model)
    with ExactCounter() as counter:
        hidden = model.model(TOKENS).last_hidden_state
        (hidden @ model.lm_head.weight.T).sum().backward()
    assert meter.total < 0.98 * counter.total


@pytest.mark.parametrize("tied", [False, True])
def test_counting_and_metering_change_no_bit_of_any_gradient(tied):
    def gradients(meter=False, count=False):
        model = policy(tie_word_embeddings=tied)
        if meter:
            attached(model)
        if count:
            with ExactCounter():
                loss_of(model).backward()
        else:
            loss_of(model).backward()
        return {name: weight.grad for name, weight in model.named_parameters()}

    plain = gradients()
    for other in (gradients(meter=True), gradients(meter=True, count=True), gradients(count=True)):
        assert all(torch.equal(plain[name], other[name]) for name in plain)


def test_phases_follow_from_where_and_how_it_is_computed():
    model = policy()
    meter = attached(model)
    loss_of(model).backward()
    meter.in_loop = True
    with torch.no_grad():
        loss_of(model)
    loss = loss_of(model)
    with meter.during("sample"), torch.no_grad():
        loss_of(model)
    with torch.no_grad():  # a backward is training, wherever it is called
        loss.backward()
    cells = {phase: flops for (_, phase), flops in meter.cells.items()}
    assert cells.keys() == {"prepare", "score", "train", "sample"}
    assert cells["sample"] == cells["score"]
    assert cells["prepare"] == cells["train"] > 2.9 * cells["score"]


def test_a_phase_ends_with_its_block_even_if_that_fails():
    meter = attached(layer := nn.Linear(1, 1))
    with pytest.raises(ZeroDivisionError), meter.during("sample"):
        raise ZeroDivisionError
    layer(torch.ones(1, 1))
    assert meter.cells == {("policy", "prepare"): 2}


def test_a_metered_model_saves_and_loads_as_what_it_was(tmp_path):
    model = policy()
    attached(model)
    model.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = LlamaForCausalLM.from_pretrained(tmp_path)
    assert not any(isinstance(part, MeteredLinear) for part in again.modules())
    assert torch.equal(again(TOKENS).logits, model(TOKENS).logits)


def test_a_model_without_a_meter_runs_as_ever():
    model = policy()
    out = model(input_ids=TOKENS, past_key_values=DynamicCache(config=model.config), use_cache=True)
    assert out.logits.shape == (*TOKENS.shape, model.config.vocab_size)


def test_the_audit_sees_what_runs_under_inference_mode():
    layer, x = torch.nn.Linear(8, 4), torch.randn(2, 8)
    with torch.inference_mode(), ExactCounter() as counter:
        layer(x)
    assert counter.total == 2 * 2 * 8 * 4
