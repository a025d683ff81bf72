"""bf16: forward passes in it, everything that is kept or handed on in float32."""

from collections.abc import Iterator

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.testing import assert_close
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    MistralForCausalLM,
    PreTrainedModel,
)

from zoo_core.accounting.attention import use_metered_attention
from zoo_core.compute.precision import Precision, compute_in, keep_frozen, keep_frozen_in
from zoo_core.compute.sampler import sample_cached
from zoo_core.errors import ModelError, SpecError
from zoo_core.models.copies import copied
from zoo_core.models.loading import save_model
from zoo_core.models.lora import add_adapter, merged_weights, unadapted
from zoo_core.models.scorer import row_scores
from zoo_core.rollout import Prompts, Responses, logprobs_and_states, response_logprobs, response_states, text_states
from zoo_core.testing.tiny import tiny_policy

BF16 = 2.0**-8
"""Half the distance of neighbours in bfloat16, relative."""
SIZES = {
    "vocab_size": 60,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "eos_token_id": 2,
}


@pytest.fixture
def bf16() -> Iterator[None]:
    compute_in("bf16")
    yield
    compute_in("fp32")


@pytest.fixture(params=[LlamaForCausalLM, MistralForCausalLM], ids=["packed", "padded"])
def policy(request: pytest.FixtureRequest) -> PreTrainedModel:
    """A model that packs, and one that pads."""
    torch.manual_seed(0)
    window = {"sliding_window": 8} if request.param is MistralForCausalLM else {}
    model: PreTrainedModel = request.param(request.param.config_class(**SIZES, **window))
    return model.eval()


def batch() -> Responses:
    rows = [([3, 4, 5, 6], [7, 8, 9, 2]), ([3, 4, 5, 6], [10, 11]), ([12], [13, 14, 15, 16, 17])]
    return Responses.of(rows, 0, torch.device("cpu"))


def precision_of_products(model: PreTrainedModel) -> list[torch.dtype]:
    """Note in which type the first layer's outputs are, call after call."""
    seen: list[torch.dtype] = []
    model.get_submodule("model.layers.0.mlp.down_proj").register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    return seen


def test_log_probabilities_are_those_of_float32_to_the_precision_of_bf16(policy, bf16):
    seen = precision_of_products(policy)
    rough = response_logprobs(policy, batch())
    compute_in("fp32")
    exact = response_logprobs(policy, batch())
    assert seen == [torch.bfloat16, torch.float32]
    assert_close(rough, exact, rtol=4 * BF16, atol=0.0)
    assert not torch.equal(rough, exact)


def test_whatever_leaves_a_forward_pass_is_float32(policy, bf16):
    scorer = LlamaForSequenceClassification(LlamaForSequenceClassification.config_class(**SIZES, num_labels=1))
    head = torch.nn.Linear(64, 1)
    found = [
        response_logprobs(policy, batch()),
        *logprobs_and_states(policy, batch(), head=head),
        response_states(policy.base_model, batch(), head),
        text_states(policy.base_model, batch())[0],
        row_scores(scorer, batch().rows),
    ]
    assert {one.dtype for one in found} == {torch.float32}


def test_weights_stay_float32_and_so_do_their_gradients_which_are_near_those_of_float32(policy, bf16):
    def gradients() -> torch.Tensor:
        policy.zero_grad()
        (-response_logprobs(policy, batch()).sum()).backward()
        assert {weight.dtype for weight in policy.parameters()} == {torch.float32}
        return torch.cat([weight.grad.flatten() for weight in policy.parameters()])

    rough = gradients()
    compute_in("fp32")
    exact = gradients()
    assert rough.dtype == torch.float32
    assert torch.cosine_similarity(rough, exact, dim=0) > 0.999
    assert_close(rough.norm(), exact.norm(), rtol=0.02, atol=0.0)


def test_samples_bring_the_log_probabilities_that_are_read_back_from_them(policy, bf16):
    prompts = Prompts(torch.tensor([[0, 3, 4, 5], [6, 7, 8, 9]]), torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]]) > 0, "ab")
    seen = precision_of_products(policy)
    tokens, logprobs = sample_cached(
        policy, prompts, response_tokens=6, temperature=1.0, eos=2, pad=0, generator=torch.Generator().manual_seed(0)
    )
    assert set(seen) == {torch.bfloat16}
    read = response_logprobs(policy, Responses.join(prompts, tokens, torch.ones_like(tokens, dtype=torch.bool)))
    assert_close(logprobs, read, rtol=4 * BF16, atol=0.0)


def test_tf32_is_refused_where_there_is_no_gpu_of_nvidias(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SpecError, match=r"precision: tf32 is of NVIDIA GPUs.*Write fp32 or bf16"):
        compute_in("tf32")
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize(("precision", "products"), [("fp32", "highest"), ("tf32", "high"), ("bf16", "highest")])
def test_products_of_float32_are_whole_unless_tf32_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, precision: Precision, products: str
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    try:
        compute_in(precision)
        assert torch.get_float32_matmul_precision() == products
        assert torch.backends.cudnn.allow_tf32 is (precision == "tf32")
    finally:
        compute_in("fp32")


def test_cudnns_attention_is_never_taken():
    use_metered_attention()
    assert not torch.backends.cuda.cudnn_sdp_enabled()


def linear(model: nn.Module) -> set[torch.dtype]:
    """The types of the weights of all layers of the body that are no adapter's."""
    layers = [(path, part) for path, part in model.named_modules() if isinstance(part, nn.Linear)]
    return {part.weight.dtype for path, part in layers if ".layers." in path and ".lora_" not in path}


@pytest.fixture
def halved(bf16: None) -> Iterator[None]:
    keep_frozen_in("bf16")
    yield
    keep_frozen_in("fp32")


def test_only_linear_layers_that_are_not_trained_are_kept_in_bf16(halved):
    model = tiny_policy()
    model.get_submodule("model.layers.0").requires_grad_(False)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    keep_frozen(model)
    changed = {name for name, weight in model.named_parameters() if weight.dtype != torch.float32}
    assert changed == {name for name in before if name.startswith("model.layers.0") and "norm" not in name}
    assert all(torch.equal(model.get_parameter(name).float(), before[name].bfloat16().float()) for name in changed)


def test_an_output_layer_that_shares_the_embeddings_stays_as_it_is(halved):
    model = LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True)).requires_grad_(False)
    keep_frozen(model)
    assert model.lm_head.weight.dtype == model.model.embed_tokens.weight.dtype == torch.float32
    apart = keep_frozen(LlamaForCausalLM(LlamaConfig(**SIZES)).requires_grad_(False))
    assert apart.lm_head.weight.dtype == torch.bfloat16


def test_an_adapter_learns_the_same_bits_on_a_base_in_bf16_which_its_reference_shares(bf16):
    def learnt() -> tuple[PreTrainedModel, list[torch.Tensor], torch.Tensor]:
        torch.manual_seed(0)
        policy = tiny_policy()
        trained = add_adapter(policy, "policy", 2)
        keep_frozen(policy)
        optimizer = torch.optim.AdamW(trained, lr=1e-2)
        reference = copied(policy, {id(weight): weight for weight in policy.parameters() if not weight.requires_grad})
        keep_frozen(reference.requires_grad_(False))
        for _ in range(3):
            ratio = response_logprobs(policy, batch()) - response_logprobs(reference, batch())
            (ratio.square().mean() - response_logprobs(policy, batch()).mean()).backward()
            optimizer.step()
            optimizer.zero_grad()
        return policy, [weight.detach() for weight in trained], response_logprobs(policy, batch())

    _, plain, logprobs = learnt()
    keep_frozen_in("bf16")
    try:
        policy, trained, same = learnt()
    finally:
        keep_frozen_in("fp32")
    assert linear(policy) == {torch.bfloat16}
    assert all(map(torch.equal, trained, plain))
    assert torch.equal(logprobs, same)


def test_what_is_saved_of_a_policy_on_a_base_in_bf16_is_float32_with_the_whole_adapter(halved):
    policy = tiny_policy()
    base = {name: weight.clone() for name, weight in policy.named_parameters()}
    for weight in add_adapter(policy, "policy", 2):
        nn.init.normal_(weight, std=0.01)
    keep_frozen(policy)
    name = "model.layers.0.self_attn.q_proj"
    expected = base[f"{name}.weight"].bfloat16().float() + policy.get_submodule(name).get_delta_weight("policy")
    merged = merged_weights(policy)
    assert {weight.dtype for weight in merged.values()} == {torch.float32}
    assert torch.equal(merged[f"{name}.weight"], expected)
    assert torch.equal(unadapted(copied(policy)).get_submodule(name).weight, expected)


def test_a_policy_with_frozen_layers_in_bf16_is_saved_in_float32(halved, tmp_path):
    policy = tiny_policy()
    policy.get_submodule("model.layers.0").requires_grad_(False)
    save_model(keep_frozen(policy), tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert {weight.dtype for weight in saved.values()} == {torch.float32}
    assert all(
        torch.equal(weight.float(), saved[name]) for name, weight in policy.state_dict().items() if name in saved
    )


def test_models_that_fsdp_has_divided_are_not_put_into_bf16(halved, monkeypatch):
    model = tiny_policy().requires_grad_(False)
    monkeypatch.setattr(model.get_parameter("model.layers.0.mlp.up_proj.weight"), "full_tensor", None, raising=False)
    with pytest.raises(ModelError, match="FSDP2: weights: bf16: a model was divided before it was frozen"):
        keep_frozen(model)
