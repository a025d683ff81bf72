"""Loading models: safetensors only, no remote code, dropout off, the right attention, placed by accelerate."""

import copy
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from zoo_core.adapters import adapted_layers, is_apart, load_apart, merged_weights, save_apart
from zoo_core.attention import attention_for
from zoo_core.errors import ModelError, first_line, in_one_line
from zoo_core.files import HUB_ID
from zoo_core.parallel import is_first, is_sharded, placed, wait, whole_state, whole_state_for_first
from zoo_core.plugins import plugins
from zoo_core.readable import check_readable
from zoo_core.weights import SAFE, check_shards, pretrained, pretrained_with

M = TypeVar("M", bound=nn.Module)

logging.disable_progress_bar()


def resolve(ref: str) -> Path:
    """Return the local directory of the model that `ref` names; `ModelError` says why there is none."""
    path = plugins().first("zoo_load_model", ref=ref)
    if path is None:
        raise ModelError(
            f"{ref!r} is neither a local directory, a hub id (org/name) nor a model of an installed plugin. "
            "`zoo plugins` lists the plugins."
        )
    check_directory(Path(path))
    return Path(path)


def find_model(ref: str) -> Path | None:
    """Return the directory of a local model or of a hub id's snapshot; None if `ref` can be neither."""
    path = Path(ref).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise ModelError(f"{ref}: a model must be a directory (config.json, model.safetensors, tokenizer.json).")
    if ref.startswith((".", "/", "~")):
        raise ModelError(f"{ref}: there is no such directory (looked in {Path.cwd()}).")
    if not HUB_ID.fullmatch(ref):
        return None
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(ref, allow_patterns=["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]))
    except (OSError, ValueError) as error:
        offline = os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0")
        why = "HF_HUB_OFFLINE is set and it is not in the local cache" if offline else first_line(error)
        raise ModelError(
            f"{ref}: no such directory here, and as a hub model it could not be loaded: {why}. "
            "Download it once while online, or give a local directory."
        ) from None


def check_directory(path: Path) -> None:
    """Raise `ModelError` unless the directory holds a config and safetensors weights, all of them."""
    _check_merged(path)
    if not (path / "config.json").is_file():
        raise ModelError(f"{path}: has no config.json, so it is not a Hugging Face model directory.")
    if any(path.glob("*.safetensors")):
        check_shards(path)
        return
    pickles = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in path.glob(pattern))
    if pickles:
        raise ModelError(
            f"{path}: has pickled weights only ({', '.join(pickles)}), which can run code when they are read. Convert "
            "them on a machine you trust: model.save_pretrained(directory, safe_serialization=True)."
        )
    raise ModelError(f"{path}: has no *.safetensors weights.")


def _check_merged(path: Path) -> None:
    """Raise `ModelError` if this is an adapter, which is no model without its base."""
    if not (path / "adapter_config.json").is_file() or is_apart(path):
        return
    try:
        base = json.loads((path / "adapter_config.json").read_text()).get("base_model_name_or_path")
    except (ValueError, AttributeError):
        base = None
    tokenizer = path if (path / "tokenizer_config.json").is_file() else base or path
    raise ModelError(
        f"{path}: is a LoRA adapter{f' of {base}' if base else ''} (adapter_config.json), not a model. Merge the two "
        f"and name the new directory ({path}-merged). In Python: `"
        "from peft import AutoPeftModelForCausalLM; from transformers import AutoTokenizer; "
        f"model = AutoPeftModelForCausalLM.from_pretrained({str(path)!r}).merge_and_unload(); "
        f"model.save_pretrained({f'{path}-merged'!r}); "
        f"AutoTokenizer.from_pretrained({str(tokenizer)!r}).save_pretrained({f'{path}-merged'!r})`. "
        "If it is merged already, delete adapter_config.json and adapter_model.safetensors."
    )


def context_of(path: Path) -> int | None:
    """Tokens of the longest sequence that a model in a directory can read; None if its config names no bound."""
    try:
        config = AutoConfig.from_pretrained(path, **SAFE)
    except Exception as error:  # as in `_load`
        why = in_one_line(error)
        raise ModelError(f"{path}: config.json cannot be read: {why}") from error
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def load_policy(path: Path) -> PreTrainedModel:
    """Load a causal language model, on this process's device, ready to train without dropout."""
    policy = _load(AutoModelForCausalLM, path)
    check_readable(policy, path)
    return policy


def load_policy_with(weights: Path, base: Path) -> PreTrainedModel:
    """Load the weights of a file or directory into the architecture of a base; they must fit exactly."""
    files = sorted(weights.glob("*.safetensors")) if weights.is_dir() else [weights]
    if not files:
        raise ModelError(f"{weights}: there are no *.safetensors weights.")
    if weights.is_dir():
        check_shards(weights)
    return _load(AutoModelForCausalLM, base, (weights, files))


def load_scorer(path: Path) -> PreTrainedModel:
    """Load a sequence classifier with one output, in evaluation mode; it may have an adapter beside its base."""
    model = _load(AutoModelForSequenceClassification, path)
    if model.config.num_labels != 1:
        raise ModelError(f"{path}: a scorer must have one output, this one has {model.config.num_labels}.")
    model.eval().requires_grad_(False)
    return model


def scorer_from(policy: PreTrainedModel, seed: int) -> PreTrainedModel:
    """Return a scorer on a copy of a policy's body, with a new head ~ N(0, 1/√(d+1)) without bias.

    The initialisation of Ziegler et al. 2019 (arXiv:1909.08593), section 2.1.
    """
    config = type(policy.config).from_dict(
        {**policy.config.to_dict(), "id2label": {0: "score"}, "label2id": {"score": 0}}
    )
    auto = AutoModelForSequenceClassification
    scorer: PreTrainedModel = auto.from_config(config, attn_implementation=attention_for(auto, config))
    head = scorer.get_parameter("score.weight")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        head.copy_(torch.randn(head.shape, generator=generator) / (head.shape[1] + 1) ** 0.5)
    placed(scorer).base_model.load_state_dict(policy.base_model.state_dict())
    return _without_dropout(scorer)


def copied(model: M, shared: Mapping[int, object] | None = None) -> M:
    """Return a copy with weights of its own, but for those that are `shared`, by their id. Together.

    Of a model that FSDP2 has divided the copy is whole; nothing is shared with it.
    """
    if not is_sharded(model):
        return copy.deepcopy(model, dict(shared or {}))  # what a copy's memo holds is taken for copied already
    if any(not weight.requires_grad for weight in model.parameters()):
        raise ModelError(
            "FSDP2: models cannot share weights that are frozen. Launch without --use_fsdp (DDP), or use an "
            "arrangement of separate models."
        )
    kind: Any = next(kind for kind in type(model).__mro__ if not issubclass(kind, FSDPModule))
    with torch.random.fork_rng():
        twin: M = kind(copy.deepcopy(model.config))
    twin.load_state_dict(whole_state(model))
    return _without_dropout(twin.train(model.training))


def save_model(model: PreTrainedModel, directory: Path, *, apart: bool = False) -> None:
    """Write a model, which stays as it is, as an ordinary Hugging Face directory: adapters are added to the weights.

    With `apart` they stay beside the base, so that runs on that base can hold it once (`load_scorer` reads both kinds).
    The first process writes. Together.
    """
    state = whole_state_for_first(model) if is_sharded(model) else None
    if is_first():
        _save(model, directory, state, apart)
    wait()


def _save(model: PreTrainedModel, directory: Path, state: dict[str, torch.Tensor] | None, apart: bool) -> None:
    if state is not None:
        model.save_pretrained(directory, state_dict=state)
    elif not any(adapted_layers(model)):
        model.save_pretrained(directory)
    elif apart:
        save_apart(model, directory)
    else:
        model.save_pretrained(directory, state_dict=merged_weights(model))


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a policy; it must have an EOS token and another one for padding."""
    tokenizer = _load_tokenizer(path)
    for name in ("eos", "pad"):
        if getattr(tokenizer, f"{name}_token_id") is None:
            without = "no response could ever end." if name == "eos" else "batches cannot be padded."
            raise ModelError(
                f"{path}: the tokenizer has no {name.upper()} token, so {without} {how_to_add(name, path)}"
            )
    if tokenizer.pad_token_id == tokenizer.eos_token_id:
        raise ModelError(
            f"{path}: the tokenizer pads with its EOS token ({tokenizer.eos_token!r}), so a masked pad would mask the "
            f"end of a response and models would never learn to stop. {how_to_add('pad', path)}"
        )
    return tokenizer


def load_scorer_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a scorer, which needs a pad token only."""
    tokenizer = _load_tokenizer(path)
    if tokenizer.pad_token_id is None:
        advice = how_to_add("pad", path, "AutoModelForSequenceClassification")
        raise ModelError(f"{path}: the scorer's tokenizer has no pad token, so batches cannot be padded. {advice}")
    return tokenizer


def how_to_add(name: str, path: object, auto: str = "AutoModelForCausalLM") -> str:
    """Return the advice, to be run as it stands, that gives a tokenizer a token and a model an embedding of it."""
    new = f"{path}-{name}"
    return (
        f"Add one to tokenizer and model, once, and name the new directory ({new}). In Python: `"
        f"from transformers import {auto}, AutoTokenizer; tokenizer = AutoTokenizer.from_pretrained({str(path)!r}); "
        f"model = {auto}.from_pretrained({str(path)!r}); "
        f'tokenizer.add_special_tokens({{"{name}_token": "<|{name}|>"}}); '
        "model.resize_token_embeddings(max(len(tokenizer), model.config.get_text_config().vocab_size)); "
        f"model.config.{name}_token_id = tokenizer.{name}_token_id; "
        f"tokenizer.save_pretrained({new!r}); model.save_pretrained({new!r})`"
    )


def weights_sha256(path: Path) -> str:
    """SHA-256 over the names, shapes, types and values of a directory's weights, however they are sharded."""
    state: dict[str, torch.Tensor] = {}
    for file in sorted(path.glob("*.safetensors")):
        state |= load_file(file)
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def files_sha256(path: Path) -> str:
    """Hash all of a model directory that can change what it computes: weights, config, tokenizer and template."""
    digest = hashlib.sha256(weights_sha256(path).encode())
    for file in sorted(path.iterdir()):
        if file.suffix in (".json", ".jinja", ".txt", ".model"):
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def _load(auto: Any, path: Path, other: tuple[Path, list[Path]] | None = None) -> PreTrainedModel:
    """Load a directory, or its architecture with the weights of other files."""
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
    return _without_dropout(placed(model))


def _load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path, **SAFE)
        tokenizer("a")  # some faults of a configuration show only here
    except Exception as error:  # transformers and tokenizers raise anything on files that they did not write
        why = in_one_line(error)
        raise ModelError(f"{path}: the tokenizer cannot be loaded: {why}") from error
    return tokenizer


def _without_dropout(model: M) -> M:
    # p = 0 and not eval(): with dropout the probability ratio of an unchanged policy would not be 1.
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        # Others hand a probability to a function, some straight from their config: hidden_dropout, layerdrop, ...
        for holder in (module, getattr(module, "config", None)):
            for name, value in list(getattr(holder, "__dict__", {}).items()):
                if "drop" in name and isinstance(value, (int, float)) and not isinstance(value, bool):
                    setattr(holder, name, 0.0)
    return model
