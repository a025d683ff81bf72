"""Small models of many families, by the names that transformers gives them."""

from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel

from zoo_core.accounting.attention import use_metered_attention

PACKED = (
    "llama",
    "qwen2",
    "qwen3",
    "gpt2",
    "gpt_neox",
    "phi3",
    "olmo2",
    "gemma",
    "granite",
    "cohere",
    "smollm3",
    "opt",
)
"""Families whose models read packed rows: with grouped heads, tied embeddings, biases, learnt positions."""
SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
OWN_SIZES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "n_inner": 48},
    "gpt_neox": {"rotary_pct": 0.5},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "gemma3_text": {"sliding_window": 3, "layer_types": ["sliding_attention", "full_attention"]},
    "mistral": {"sliding_window": 3},
    "mamba": {"state_size": 4},
}


def model_of(kind: str) -> PreTrainedModel:
    """Return a small model of a family, with weights large enough for every token to matter, without dropout."""
    use_metered_attention()
    torch.manual_seed(0)
    config = CONFIG_MAPPING[kind](**{**SIZES, "initializer_range": 0.3, **OWN_SIZES.get(kind, {})})
    attention = "sdpa" if kind != "mamba" else None
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    model.eval()
    return model


def random_model(seed: int) -> PreTrainedModel:
    """Return a small GPT-2 without dropout and with large weights, which can compute in float64 throughout.

    (The norms of Llama are in float32, whatever its weights are in.)
    """
    model = model_of("gpt2")
    torch.manual_seed(seed)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return model
