"""What a model's costs grow with, read off its modules. On the meta device its configuration is enough: no weights."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from zoo_core.errors import ModelError, first_line
from zoo_core.models.lora import plain


@dataclass(frozen=True)
class Sizes:
    """Sizes of a causal language model; `layer` and `width` are counts of one layer, the mean over all of them."""

    parameters: int
    depth: int
    context: int | None
    """Longest prompt and response together."""
    layer: dict[str, float]
    """linear: weights that multiply; lora_A, lora_B: inputs and outputs of linear layers, which an adapter's two halves
    are as wide as; attention: heads · (key width + value width); parameters: all of them; hidden, inner, kv: widths of
    what a layer remembers of a token for its backward pass; tokens: 1."""
    outside: int
    """Parameters outside the layers: embeddings, a head that is not tied to them, norms."""
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int
    hidden: int
    inner: int
    """Widest of a layer's linear outputs."""

    @property
    def kv(self) -> int:
        """Width of the keys of a token, and of its values."""
        return self.kv_heads * self.head_width


def sizes_of(config: PreTrainedConfig) -> Sizes:
    """Return the sizes of the model that a configuration describes; nothing of it is allocated."""
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    layers = stack(model)
    if layers is None:
        raise ModelError(f"{type(model).__name__} has no list of layers, so what one of them costs cannot be told.")
    path, blocks = layers
    text = config.get_text_config()
    linear = list(linear_layers(blocks))
    shapes = [(inputs, outputs) for _, _, inputs, outputs in linear]
    known = {f"{name}.{rest}" for name, _, _, _ in linear for rest in ("weight", "bias")}
    unknown = [name for name, weight in blocks.named_parameters() if name not in known and weight.dim() > 1]
    if unknown:
        raise ModelError(
            f"{type(model).__name__}: the weights {path}.{unknown[0]} are not those of a linear layer (a mixture of "
            "experts, as a rule). Only dense models can be planned from their configuration."
        )
    depth, heads = len(blocks), int(text.num_attention_heads)
    kv_heads = int(getattr(text, "num_key_value_heads", None) or heads)
    head_width = int(getattr(text, "head_dim", None) or text.hidden_size // heads)
    inside = sum(weight.numel() for weight in blocks.parameters())
    whole = sum(weight.numel() for weight in model.parameters())
    layer = {
        "linear": sum(inputs * outputs for inputs, outputs in shapes) / depth,
        "lora_A": sum(inputs for inputs, _ in shapes) / depth,
        "lora_B": sum(outputs for _, outputs in shapes) / depth,
        "attention": 2.0 * heads * head_width,
        "parameters": inside / depth,
        "hidden": float(text.hidden_size),
        "inner": float(max(outputs for _, outputs in shapes)),
        "kv": float(kv_heads * head_width),
        "tokens": 1.0,
    }
    return Sizes(
        parameters=whole,
        depth=depth,
        context=getattr(text, "max_position_embeddings", None),
        layer=layer,
        outside=whole - inside,
        heads=heads,
        kv_heads=kv_heads,
        head_width=head_width,
        vocabulary=text.vocab_size,
        hidden=text.hidden_size,
        inner=int(layer["inner"]),
    )


def read_config(ref: str | Path) -> PreTrainedConfig:
    """Return the configuration in a file or a directory, or a hub id's; `ModelError` says why there is none."""
    path = Path(ref).expanduser()
    if path.is_dir() and not (path / "config.json").is_file():
        raise ModelError(f"{path}: has no config.json, so it is not a Hugging Face model directory.")
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            path if path.exists() else str(ref), trust_remote_code=False
        )
        return config
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{ref}: no configuration of a model can be read there: {first_line(error)} Give the config.json "
            "of a model that transformers knows, its directory, or a hub id."
        ) from None
    return config


def models_in(module: nn.Module) -> list[nn.Module]:
    """Return the models that a ratio of them is made of; any other module is one."""
    models: list[nn.Module] = [part for part in module.children() if isinstance(part, PreTrainedModel)]
    return models if len(models) > 1 else [module]


def stack(model: nn.Module) -> tuple[str, nn.ModuleList] | None:
    """Return the path of a model's list of layers, and the list; None if it has none, as a head alone."""
    lists = [(path, part) for path, part in model.named_modules() if isinstance(part, nn.ModuleList)]
    filled = [(path, part) for path, part in lists if any(True for _ in linear_layers(part))]
    return min(filled, key=lambda found: found[0].count("."), default=None)


def linear_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module, int, int]]:
    """Yield path, layer, inputs and outputs of every linear layer that is no adapter's."""
    for path, part in model.named_modules():
        if isinstance(part, (nn.Linear, Conv1D)) and ".lora_" not in path:
            yield plain(f"{path}.")[:-1], part, *widths(part)


def widths(layer: nn.Module) -> tuple[int, int]:
    """Return inputs and outputs of a linear layer."""
    first, second = layer.get_parameter("weight").shape
    return (first, second) if isinstance(layer, Conv1D) else (second, first)
