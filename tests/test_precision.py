"""bf16: forward passes in it, everything that is kept or handed on in float32."""

from collections.abc import Iterator

import pytest
import torch
from torch.testing import assert_close
from transformers import LlamaForCausalLM, LlamaForSequenceClassification, MistralForCausalLM, PreTrainedModel

from zoo_core.accounting.attention import use_metered_attention
from zoo_core.compute.precision import Precision, compute_in
from zoo_core.compute.sampler import sample_cached
from zoo_core.errors import SpecError
from zoo_core.models.scorer import row_scores
from zoo_core.rollout import Prompts, Responses, logprobs_and_states, response_logprobs, response_states, text_states

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
