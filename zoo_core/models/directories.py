"""Model directories: finding one, checking that its files are complete, and hashing them."""

import hashlib
import json
import os
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from safetensors.torch import load_file
from transformers import AutoConfig

from zoo_core.datasets.files import HUB_ID
from zoo_core.errors import ModelError, first_line, in_one_line
from zoo_core.models.files import SUFFIXES, model_files
from zoo_core.models.lora import is_apart
from zoo_core.models.weights import SAFE, check_shards


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

    try:
        return Path(snapshot_download(ref, allow_patterns=[f"*{suffix}" for suffix in SUFFIXES]))
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
    """Raise `ModelError` if this is an adapter, which is not a model without its base."""
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
    """Return the largest number of tokens that a model in a directory can read; None if its config names none."""
    try:
        config = AutoConfig.from_pretrained(path, **SAFE)
    except Exception as error:  # as in `_load`
        why = in_one_line(error)
        raise ModelError(f"{path}: config.json cannot be read: {why}") from error
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def weights_sha256(path: Path) -> str:
    """Return a SHA-256 over names, shapes, types and values of a directory's weights, however files divide them."""
    state: dict[str, torch.Tensor] = {}
    for file in sorted(path.glob("*.safetensors")):
        state |= load_file(file)
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def files_sha256(path: Path) -> str:
    """Return a SHA-256 over all files that can change a model's results: weights, config, tokenizer and template."""
    digest = hashlib.sha256(weights_sha256(path).encode())
    for file in model_files(path):
        if file.suffix != ".safetensors":
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()
