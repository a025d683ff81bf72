"""Every architecture that loads samples, reads and is metered rightly; docs/architectures.md says how each is computed.

What is right is a plain forward pass: one row at a time, unpadded, without a cache, as the architecture was written.
"""

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel

from zoo_core.accounting.audit import ExactCounter
from zoo_core.accounting.meter import Meter
from zoo_core.compute import sampler
from zoo_core.compute.readers import reader_for
from zoo_core.compute.sampler import response_mask, sample_cached
from zoo_core.errors import ModelError
from zoo_core.models.copies import scorer_from
from zoo_core.models.loading import load_policy
from zoo_core.rollout import Prompts, Responses, response_logprobs
from zoo_core.testing import families

TABLE = Path(__file__).parents[1] / "docs" / "architectures.md"
SIZES = {**families.SIZES, "vocab_size": 64}
GPT = families.OWN_SIZES["gpt2"]
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
STATES = {
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_chunk_size": 8,
}
LATENT = {
    "n_routed_experts": 4,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "head_dim": 4,
    "n_group": 1,
    "topk_group": 1,
    "num_key_value_heads": 4,
}
SLIDING = families.OWN_SIZES["gemma3_text"]
OWN_SIZES: dict[str, dict[str, object]] = {
    **families.OWN_SIZES,
    "bamba": {**STATES, "attn_layer_indices": [1]},
    "bloom": {"n_layer": 2, "n_head": 4},
    "codegen": {**GPT, "rotary_dim": 4, "n_ctx": 64},
    "cohere": {},
    "deepseek_v3": {**EXPERTS, **LATENT},
    "falcon": {"head_dim": None, "alibi": False},
    "falcon (ALiBi)": {"head_dim": None, "alibi": True, "multi_query": False},
    "falcon_h1": {**STATES, "mamba_d_ssm": 64},
    "falcon_mamba": {"state_size": 4},
    "gemma": {},
    "gemma2": {"sliding_window": 3, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 2.0},
    "gemma3_text (softcap)": {**SLIDING, "attn_logit_softcapping": 2.0},
    "gpt_bigcode": GPT,
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2, "num_heads": 4, "window_size": 3},
    "gpt_oss": {**EXPERTS, **SLIDING},
    "gptj": {**GPT, "rotary_dim": 4},
    "granite": {},
    "granitemoehybrid": {**EXPERTS, **STATES, "layer_types": ["mamba", "attention"], "shared_intermediate_size": 16},
    "jamba": {
        **EXPERTS,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "use_mamba_kernels": False,
        "mamba_d_state": 4,
        "mamba_dt_rank": 2,
    },
    "lfm2": {"layer_types": ["conv", "full_attention"], "block_multiple_of": 8},
    "llama": {},
    "mamba2": {"state_size": 8, "num_heads": 8, "n_groups": 1, "chunk_size": 8},
    "mixtral": EXPERTS,
    "mpt": {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 64},
    "olmo2": {},
    "openai-gpt": GPT,
    "phi": {},
    "phi3": {},
    "qwen2": {},
    "qwen2_moe": {**EXPERTS, "shared_expert_intermediate_size": 16},
    "qwen3": {},
    "qwen3_next": {
        **EXPERTS,
        "shared_expert_intermediate_size": 16,
        "layer_types": ["linear_attention", "full_attention"],
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    },
    "recurrent_gemma": {"lru_width": 32, "attention_window_size": 4, "block_types": ["recurrent", "attention"]},
    "rwkv": {"attention_hidden_size": 32, "context_length": 64},
    "stablelm": {},
    "starcoder2": {"sliding_window": 3},
    "xlstm": {"num_heads": 4, "num_blocks": 2, "chunk_size": 8},
}
REFUSED = ["recurrent_gemma", "rwkv", "xlstm"]
LOADED = [kind for kind in OWN_SIZES if kind not in REFUSED]
WAYS = {"PackedReader": "packed", "PaddedReader": "padded", "RereadingReader": "read again"}
PROMPTS = [[1, 5, 6, 7], [1, 3], [1, 5, 6, 7], [1], [9, 9, 4, 8, 3, 7, 7], [1, 20, 30], [4, 4], [13, 12, 11, 10, 9]] * 2
TOKENS = 7


def saved(kind: str, directory: Path) -> Path:
    """Save a small model whose weights are large enough for every token to matter."""
    torch.manual_seed(0)
    sizes = {name: size for name, size in {**SIZES, **OWN_SIZES[kind]}.items() if size is not None}
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind.partition(" ")[0]](**sizes))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1 or name.endswith(".bias"):
                weight.normal_(0, 0.3)
    model.save_pretrained(directory)
    return directory


@dataclass(frozen=True)
class Measured:
    """What was found out about an architecture."""

    policy: PreTrainedModel
    left: int
    """Rows that ended before the longest."""
    sampled: float
    """How far log-probabilities are from plain ones, when they are sampled."""
    read: float
    """The same when they are read back."""
    responses: Responses


@cache
def measured(kind: str) -> Measured:
    with TemporaryDirectory() as folder:
        directory = saved(kind, Path(folder))
        policy = load_policy(directory).eval()
        policy.generation_config.eos_token_id = None  # what ends a row is chosen below
        # Falcon's own attention adds its ALiBi twice, to the scores and with the mask (transformers 5.23).
        plain = "sdpa" if kind == "falcon (ALiBi)" else "eager"
        reference = AutoModelForCausalLM.from_pretrained(directory, attn_implementation=plain).eval()
    device = torch.device("cpu")
    padded = Responses.of([(prompt, ()) for prompt in PROMPTS], 0, device)
    prompts = Prompts(padded.tokens, padded.attention, [""] * len(PROMPTS))

    def sample(eos: int) -> tuple[Tensor, Tensor]:
        settings = {"response_tokens": TOKENS, "temperature": 1.0, "eos": eos, "pad": 0}
        return sample_cached(policy, prompts, **settings, generator=torch.Generator().manual_seed(1))

    crowded, sampler.CROWDED = sampler.CROWDED, 1.0  # every row that has ended leaves the batch at once
    often = int(sample(-1)[0][:, 1:4].flatten().mode().values)
    tokens, logprobs = sample(often)  # the same ones, but many rows end in the middle
    sampler.CROWDED = crowded
    mask = response_mask(tokens, often)
    responses = Responses.join(prompts, tokens, mask)
    with torch.no_grad():
        again = response_logprobs(policy, responses)
        wanted = torch.zeros_like(again)
        for row, (prompt, answer) in enumerate(responses.rows):
            logits = reference(input_ids=torch.tensor([[*prompt, *answer]]), use_cache=False).logits[0]
            every = logits[len(prompt) - 1 : -1].log_softmax(-1)
            wanted[row, : len(answer)] = every.gather(1, torch.tensor(answer).unsqueeze(1)).squeeze(1)
    apart = [float((found - wanted)[mask].abs().max()) for found in (logprobs, again)]
    return Measured(policy, int((mask.sum(1) < TOKENS).sum()), *apart, responses)


@pytest.mark.parametrize("kind", LOADED)
def test_sampled_log_probabilities_are_those_of_a_plain_forward_pass(kind: str) -> None:
    found = measured(kind)
    assert 0 < found.left < len(PROMPTS)
    assert found.sampled < 1e-4


@pytest.mark.parametrize("kind", LOADED)
def test_log_probabilities_that_are_read_back_are_those_of_a_plain_forward_pass(kind: str) -> None:
    assert measured(kind).read < 1e-4


@pytest.mark.parametrize("kind", LOADED)
def test_the_meter_charges_what_the_audit_counts(kind: str) -> None:
    policy, responses = measured(kind).policy.train(), measured(kind).responses
    meter = Meter()
    meter.attach(policy, "policy")
    with ExactCounter() as counter:
        response_logprobs(policy, responses).sum().backward()
    assert counter.failed is None
    assert meter.total == pytest.approx(counter.total, rel=1e-4)
    policy.zero_grad()
    policy.eval()


@pytest.mark.parametrize("kind", LOADED)
def test_dropout_is_off_whatever_the_architecture_calls_it(kind: str, tmp_path: Path) -> None:
    file = saved(kind, tmp_path) / "config.json"
    usual = CONFIG_MAPPING[kind.partition(" ")[0]]().to_dict()
    on = {name: 0.5 for name, value in usual.items() if "drop" in name and type(value) in (int, float)}
    file.write_text(json.dumps({**json.loads(file.read_text()), **on}))
    policy, ids = load_policy(tmp_path), torch.tensor([PROMPTS[4]])
    with torch.no_grad():
        off, training = (policy.train(way)(input_ids=ids, use_cache=False).logits for way in (False, True))
    assert torch.equal(off, training)


@pytest.mark.parametrize("kind", REFUSED)
def test_an_architecture_that_reads_padding_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    saved(kind, tmp_path)
    with pytest.raises(ModelError, match="ForCausalLM cannot be computed in padded batches"):
        load_policy(tmp_path)


def test_the_table_in_the_documentation_tells_what_is_done_with_each() -> None:
    lines = re.findall(r"^\| `([^|]*)` \| ([^|]*) \| ([^|]*) \|$", TABLE.read_text(), re.MULTILINE)
    done = {}
    for kind in LOADED:
        policy = measured(kind).policy
        done[kind] = (WAYS[reader_for(policy).__name__], policy.config._attn_implementation)
    assert {kind: (way, attention) for kind, way, attention in lines} == done | {
        kind: ("refused", "-") for kind in REFUSED
    }
    assert [kind for kind, *_ in lines] == sorted(OWN_SIZES)


def test_a_policy_without_a_classifier_of_its_architecture_makes_no_scorer() -> None:
    with pytest.raises(ModelError, match=r"no scorer .* of the architecture mamba"):
        scorer_from(measured("mamba").policy, 0)


@pytest.mark.parametrize("kind", ["gemma2", "gpt_neo"])
def test_a_scorer_on_a_policy_computes_attention_as_the_policy_does(kind: str) -> None:
    assert scorer_from(measured(kind).policy, 0).config._attn_implementation == "eager"
