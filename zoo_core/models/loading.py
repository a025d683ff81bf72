"""Loading models (safetensors only, no remote code, no dropout, on the device of accelerate), and saving them."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel
from transformers.utils import logging

from zoo_core.accounting.attention import use_metered_attention
from zoo_core.compute.precision import freeze, keep_frozen
from zoo_core.compute.processes import barrier, is_main_process
from zoo_core.compute.sharding import full_state_on_main, is_sharded, prepare_model
from zoo_core.errors import ModelError, in_one_line
from zoo_core.models.copies import without_dropout
from zoo_core.models.directories import check_directory
from zoo_core.models.log_ratio import LogRatioScorer, is_log_ratio, load_log_ratio, save_log_ratio
from zoo_core.models.lora import adapted_layers, is_apart, load_apart, merged, merged_weights, save_apart
from zoo_core.models.readable import check_readable
from zoo_core.models.weights import check_shards, pretrained, pretrained_with
from zoo_core.storage.atomic import give_ordinary_mode

logging.disable_progress_bar()


def load_policy(path: Path, adapt: Callable[[PreTrainedModel], object] = lambda whole: None) -> PreTrainedModel:
    """Load a causal language model on the device of this process, ready to train without dropout.

    `adapt` may add adapters to the whole model, before FSDP2 leaves each process a shard of it.
    """
    policy = _load(AutoModelForCausalLM, path, adapt=adapt)
    check_readable(policy, path)
    return policy


def load_frozen(path: Path) -> PreTrainedModel:
    """Load a causal language model that nothing trains: a judge, a teacher, a reference from elsewhere."""
    return load_policy(path, freeze)


def load_policy_with(weights: Path, base: Path) -> PreTrainedModel:
    """Load the weights of a file or directory into the architecture of a base model; they must fit exactly."""
    files = sorted(weights.glob("*.safetensors")) if weights.is_dir() else [weights]
    if not files:
        raise ModelError(f"{weights}: there are no *.safetensors weights.")
    if weights.is_dir():
        check_shards(weights)
    return _load(AutoModelForCausalLM, base, (weights, files))


def load_scorer(path: Path) -> PreTrainedModel | LogRatioScorer:
    """Load what scores texts, in evaluation mode: a sequence classifier with one output, or a ratio of two policies.

    Either may have an adapter beside its base.
    """
    if is_log_ratio(path):
        return load_log_ratio(path, load_frozen).eval()
    model = _load(AutoModelForSequenceClassification, path, adapt=freeze)
    if model.config.num_labels != 1:
        raise ModelError(f"{path}: a scorer must have one output, this one has {model.config.num_labels}.")
    return model


def save_model(model: PreTrainedModel | LogRatioScorer, directory: Path, *, apart: bool = False) -> None:
    """Write a model as an ordinary Hugging Face directory, with adapters merged into the written weights.

    A ratio of two policies becomes the directory of the one that was trained, with the other in `start` inside it.

    With `apart`, adapters are written beside the base, so that models on one base can share it in memory (`load_scorer`
    reads both kinds).
    Rank 0 writes. Collective.
    """
    if isinstance(model, LogRatioScorer):
        save_log_ratio(model, directory, partial(save_model, apart=apart))
        return
    state = full_state_on_main(model) if is_sharded(model) else None
    if is_main_process():
        _save(model, directory, state, apart)
    barrier()


def _save(model: PreTrainedModel, directory: Path, state: dict[str, torch.Tensor] | None, apart: bool) -> None:
    if state is not None:
        adapted = any(adapted_layers(model))
        model.save_pretrained(directory, state_dict=merged(model, state) if adapted else state)
    elif not any(adapted_layers(model)):  # frozen layers may be in bfloat16; a file of two types would surprise people
        model.save_pretrained(directory, state_dict={name: one.float() for name, one in model.state_dict().items()})
    elif apart:
        save_apart(model, directory)
    else:
        model.save_pretrained(directory, state_dict=merged_weights(model))
    for file in directory.glob("*.safetensors"):
        give_ordinary_mode(file)


def _load(
    auto: Any,
    path: Path,
    other: tuple[Path, list[Path]] | None = None,
    adapt: Callable[[PreTrainedModel], object] = lambda whole: None,
) -> PreTrainedModel:
    """Load a directory, or its architecture with the weights of other files."""
    use_metered_attention()
    check_directory(path)
    where = other[0] if other else path
    architecture = "?"
    try:
        architecture = (json.loads((path / "config.json").read_text()).get("architectures") or ["?"])[0]
        if other:
            state: dict[str, Tensor] = {name: weight for file in other[1] for name, weight in load_file(file).items()}
            model = pretrained_with(auto, path, state, where)
        elif is_apart(path):
            model = load_apart(auto, path)
        else:
            model = pretrained(auto, path)
    except SafetensorError as error:
        raise ModelError(
            f"{where}: the model ({architecture}) cannot be loaded: a file of weights is damaged or cut ({error}). "
            "Download or save it again."
        ) from None
    except ModelError:
        raise
    except Exception as error:  # transformers raises anything on files that it did not write
        why = in_one_line(error)
        raise ModelError(f"{where}: the model ({architecture}) cannot be loaded: {why}") from error
    adapt(without_dropout(model))
    return prepare_model(keep_frozen(model))
