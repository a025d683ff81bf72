"""LoRA adapters (Hu et al. 2021, arXiv:2106.09685): several models on one frozen base.

A model holds its adapters under names. At any time one of them, or none, computes with the base. The arithmetic is
peft's, which is imported late, because most runs have no adapters.
"""

import contextlib
import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from zoo_core.compute.precision import keep_frozen
from zoo_core.compute.sharding import full_state, is_sharded
from zoo_core.errors import ModelError
from zoo_core.models.attention import attention_for
from zoo_core.models.weights import put

M = TypeVar("M", bound=nn.Module)


class TrainingDropout(nn.Dropout):
    """Dropout of passes with a gradient only: what is sampled or scored is the policy as it is."""

    def forward(self, input: Tensor) -> Tensor:
        """Drop, if this pass is trained on."""
        return super().forward(input) if torch.is_grad_enabled() else input


def add_adapter(
    model: PreTrainedModel,
    name: str,
    rank: int,
    *,
    alpha: int | None = None,
    targets: Collection[str] | None = None,
    dropout: float = 0.0,
) -> list[nn.Parameter]:
    """Replace W by W + (α/r)BA in linear layers of the body, with B = 0; return all A and B.

    r is `rank`, and α is 2r unless `alpha` is given. `targets` are the last parts of the layers' names, such as q_proj;
    None takes every linear layer. `dropout` is the probability that an input of A is 0 in passes that are trained on.
    All other weights are frozen, those of earlier adapters, too. The new adapter is the active one. `ModelError` if no
    layer has a name in `targets`.
    """
    from peft import LoraConfig

    if is_sharded(model):
        raise ModelError("FSDP2: adapters cannot be added to a model in parts. Launch without --use_fsdp (DDP).")
    linear = {
        plain(f"{path}.")[:-1]: type(part)
        for path, part in model.named_modules()
        if isinstance(part, (nn.Linear, Conv1D)) and _in_body(model, path) and ".lora_" not in path
    }
    chosen = [path for path in linear if targets is None or path.rsplit(".", 1)[-1] in targets]
    unknown = set(targets or ()) - {path.rsplit(".", 1)[-1] for path in linear}
    if unknown or not chosen:
        there = ", ".join(sorted({path.rsplit(".", 1)[-1] for path in linear}))
        raise ModelError(f"adapters: {type(model).__name__} has no {', '.join(sorted(unknown))}; it has {there}.")
    transposed = any(issubclass(kind, Conv1D) for kind in linear.values())
    strength = 2 * rank if alpha is None else alpha
    settings = LoraConfig(r=rank, lora_alpha=strength, target_modules=sorted(chosen), fan_in_fan_out=transposed)
    _inject(model, name, settings)
    for layer in adapted_layers(model) if dropout else ():
        if name in layer.lora_A:
            layer.lora_dropout[name] = TrainingDropout(dropout)
    return [weight for path, weight in model.named_parameters() if ".lora_" in path and f".{name}." in path]


def add_adapters_of(model: PreTrainedModel, twin: PreTrainedModel) -> None:
    """Add the adapters of a model to another of its kind that has none; the same one is active."""
    for name, settings in model.peft_config.items():
        _inject(twin, name, settings)
    activate(twin, active_adapter(model))


@contextlib.contextmanager
def adapter(model: nn.Module, name: str | None) -> Iterator[None]:
    """Make this adapter active inside the context, or none of them (None); restore the one before afterwards."""
    before = active_adapter(model)
    activate(model, name)
    try:
        yield
    finally:
        activate(model, before)


def activate(model: nn.Module, name: str | None) -> None:
    """Make this adapter compute with the base from now on, or none of them (None). Trainable weights stay trainable."""
    trainable = [weight for weight in model.parameters() if weight.requires_grad]
    for layer in adapted_layers(model):
        layer.enable_adapters(name is not None)
        if name is not None:
            layer.set_adapter(name)
    for weight in trainable:  # peft freezes inactive adapters, and a backward pass would leave them out
        weight.requires_grad_(True)


def active_adapter(model: nn.Module) -> str | None:
    """Return the name of the adapter that computes with the base of this model; None if it is the base alone."""
    layer = next(adapted_layers(model))
    return None if layer.disable_adapters else layer.active_adapters[0]


def adapted_layers(model: nn.Module) -> Iterator[Any]:
    """Yield the layers that have adapters."""
    return (part for part in model.modules() if hasattr(part, "lora_A"))


def merged_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the full weights of an ordinary model, in float32, with the active adapter merged. Collective.

    This one stays as it is.
    """
    return merged(model, full_state(model))


@torch.no_grad()
def merged(model: nn.Module, full: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the same from the model's full weights, wherever these are."""
    whole = {path: weight.float() for path, weight in full.items()}
    state = {path: weight for path, weight in whole.items() if ".lora_" not in path}
    for path, layer in model.named_modules():
        if hasattr(layer, "lora_A") and layer.active_adapters[0] in layer.lora_A:
            name = layer.active_adapters[0]
            change = whole[f"{path}.lora_B.{name}.weight"] @ whole[f"{path}.lora_A.{name}.weight"]
            change = change.T if layer.fan_in_fan_out else change
            state[f"{path}.base_layer.weight"] = state[f"{path}.base_layer.weight"] + change * layer.scaling[name]
    return {plain(path): weight for path, weight in state.items()}


@torch.no_grad()
def unadapted(model: M) -> M:
    """Put the active adapter into the weights and remove all adapters; return the model, whose weights are float32."""
    for weight in model.parameters():  # those of a base may be kept in bfloat16, where no optimizer gets anywhere
        weight.data = weight.data.float()
    for path, layer in [(path, part) for path, part in model.named_modules() if hasattr(part, "lora_A")]:
        plain_layer = layer.get_base_layer()
        if not layer.disable_adapters and layer.active_adapters[0] in layer.lora_A:
            plain_layer.weight += layer.get_delta_weight(layer.active_adapters[0])
        model.set_submodule(path, plain_layer)
    if hasattr(model, "peft_config"):
        del model.peft_config
    return model


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
    for body in (model.base_model, other.base_model):  # put into bfloat16 later, they would be two again
        keep_frozen(body)
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

    with warnings.catch_warnings(), _float32_for_now(model):
        # peft warns of a second adapter; here it is intended.
        warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")
        try:
            inject_adapter_in_model(settings, model, name)
        except ValueError as error:
            raise ModelError(f"{type(model).__name__}: cannot be given adapters: {error}") from None


@contextlib.contextmanager
def _float32_for_now(model: nn.Module) -> Iterator[None]:
    """Let frozen weights in bfloat16 pass for float32: peft gives a new adapter the type of the layer under it."""
    halves = [weight for weight in model.parameters() if weight.dtype == torch.bfloat16]
    rounded = [(weight, weight.data) for weight in halves]
    for weight, values in rounded:
        weight.data = torch.zeros((), device=values.device).expand(values.shape)
    try:
        yield
    finally:
        for weight, values in rounded:
            weight.data = values
