"""LoRA adapters (Hu et al. 2021, arXiv:2106.09685): several models on one frozen base.

A model holds its adapters under names. At any time one of them, or none, computes with the base. The arithmetic is
peft's, which is imported late, because most runs have no adapters.
"""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from zoo_core.compute.sharding import full_state, is_sharded
from zoo_core.errors import ModelError
from zoo_core.models.attention import attention_for
from zoo_core.models.weights import put


def add_adapter(model: PreTrainedModel, name: str, rank: int) -> list[nn.Parameter]:
    """Replace W by W + 2BA in every linear layer of the body, with B = 0; return all A and B.

    All other weights are frozen, those of earlier adapters, too. The new adapter is the active one.
    """
    from peft import LoraConfig

    if is_sharded(model):
        raise ModelError("FSDP2: adapters cannot be added to a model in parts. Launch without --use_fsdp (DDP).")
    linear = {
        plain(f"{path}.")[:-1]: type(part)
        for path, part in model.named_modules()
        if isinstance(part, (nn.Linear, Conv1D)) and _in_body(model, path) and ".lora_" not in path
    }
    transposed = any(issubclass(kind, Conv1D) for kind in linear.values())
    _inject(
        model,
        name,
        LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=sorted(linear), fan_in_fan_out=transposed),
    )
    return [weight for path, weight in model.named_parameters() if ".lora_" in path and f".{name}." in path]


@contextlib.contextmanager
def adapter(model: nn.Module, name: str | None) -> Iterator[None]:
    """Make this adapter active inside the context, or none of them (None); restore the one before afterwards.

    Trainable weights stay trainable. (peft freezes inactive adapters, and a backward pass would leave them out.)
    """
    layers = list(adapted_layers(model))
    before = active_adapter(model)
    trainable = [weight for weight in model.parameters() if weight.requires_grad]

    def switch(to: str | None) -> None:
        for layer in layers:
            layer.enable_adapters(to is not None)
            if to is not None:
                layer.set_adapter(to)
        for weight in trainable:
            weight.requires_grad_(True)

    switch(name)
    try:
        yield
    finally:
        switch(before)


def active_adapter(model: nn.Module) -> str | None:
    """Return the name of the adapter that computes with the base of this model; None if it is the base alone."""
    layer = next(adapted_layers(model))
    return None if layer.disable_adapters else layer.active_adapters[0]


def adapted_layers(model: nn.Module) -> Iterator[Any]:
    """Yield the layers that have adapters."""
    return (part for part in model.modules() if hasattr(part, "lora_A"))


@torch.no_grad()
def merged_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights of an ordinary model with the active adapter merged; this model stays unchanged."""
    state = {path: weight for path, weight in full_state(model).items() if ".lora_" not in path}
    for path, layer in model.named_modules():
        if hasattr(layer, "lora_A"):
            delta = layer.get_delta_weight(layer.active_adapters[0])
            state[f"{path}.base_layer.weight"] = state[f"{path}.base_layer.weight"] + delta
    return {plain(path): weight for path, weight in state.items()}


def save_apart(model: PreTrainedModel, directory: Path) -> None:
    """Write the unchanged base, and its one adapter beside it."""
    (settings,) = model.peft_config.values()
    model.config.save_pretrained(directory)
    settings.save_pretrained(directory)
    save_file(model.state_dict(), directory / "model.safetensors", metadata={"format": "pt"})


def is_apart(directory: Path) -> bool:
    """Return whether `save_apart` wrote this directory. Transformers alone fails to load it, as it should."""
    files = [directory / name for name in ("adapter_config.json", "model.safetensors", "adapter_model.safetensors")]
    return [file.is_file() for file in files] == [True, True, False]


def load_apart(auto: Any, directory: Path) -> PreTrainedModel:
    """Load a model that `save_apart` wrote, as this auto class; it computes the same bits."""
    from peft import LoraConfig

    state = load_file(directory / "model.safetensors")
    config = AutoConfig.from_pretrained(directory, local_files_only=True)
    model: PreTrainedModel = auto.from_config(
        config, attn_implementation=attention_for(auto, config), dtype=torch.float32
    )
    names = {path.split(".lora_A.")[1].split(".")[0] for path in state if ".lora_A." in path}
    if len(names) != 1:
        raise ModelError(
            f"{directory}: adapter_config.json stands beside weights that hold {len(names)} adapters instead of one. "
            "If the adapter is merged into them, delete adapter_config.json."
        )
    _inject(model, names.pop(), LoraConfig.from_pretrained(str(directory)))
    put(model, state, directory)
    return model


def share_storage(model: PreTrainedModel, other: PreTrainedModel) -> None:
    """Share the memory of frozen body weights that equal those of the other model bit for bit."""
    theirs = {plain(path): weight for path, weight in other.base_model.named_parameters() if not weight.requires_grad}
    for path, weight in model.base_model.named_parameters():
        twin = theirs.get(plain(path))
        if twin is None or weight.requires_grad or (weight.dtype, weight.device) != (twin.dtype, twin.device):
            continue
        if torch.equal(weight, twin):  # weights of different shapes are not
            weight.data = twin.data


def plain(path: str) -> str:
    """Return the path of a weight in the model without adapters."""
    return path.replace(".base_layer.", ".")


def _in_body(model: PreTrainedModel, path: str) -> bool:
    return model.base_model is not model and path.startswith(f"{model.base_model_prefix}.")


def _inject(model: PreTrainedModel, name: str, settings: Any) -> None:
    from peft import inject_adapter_in_model

    with warnings.catch_warnings():
        # peft warns of a second adapter; here it is intended.
        warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")
        try:
            inject_adapter_in_model(settings, model, name)
        except ValueError as error:
            raise ModelError(f"{type(model).__name__}: cannot be given adapters: {error}") from None
