"""Checkpoints without pickle: one safetensors file with the tensors; everything else is JSON in its header.

It is one file, so that tensors and ledger are always of the same moment. It is written to a temporary file, flushed to
disk and renamed, so that a reader sees the old checkpoint or the new one.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from zoo_core.compute.processes import barrier, is_main_process
from zoo_core.compute.sharding import full_tensor
from zoo_core.errors import StorageError
from zoo_core.storage.atomic import give_ordinary_mode


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write a tree of dicts, lists, tuples, numbers, strings, None and tensors; `StorageError` if the disk is full.

    Rank 0 writes full tensors, so that any number of ranks can read them. Collective.
    """
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(_encode(state, tensors))
    if is_main_process():
        _write(path, tree, tensors)
    barrier()


def _write(path: Path, tree: str, tensors: dict[str, Tensor]) -> None:
    temporary = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, temporary, metadata={"tree": tree})
        give_ordinary_mode(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise StorageError(
            f"{path}: the checkpoint cannot be written ({error}). What was written before is whole; make room "
            "and run the same command again to go on from there."
        ) from error


def load(path: Path) -> dict[str, Any]:
    """Return the state that `save` wrote, bit for bit."""
    try:
        with safe_open(path, framework="pt") as file:
            tree = json.loads(file.metadata()["tree"])
            state: dict[str, Any] = _decode(tree, file)
            return state
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise StorageError(
            f"{path}: not a readable checkpoint ({error}). Delete it to begin this run again."
        ) from error


def _encode(value: Any, tensors: dict[str, Tensor]) -> Any:
    # JSON would turn integer keys (AdamW's state) into strings and tuples (betas) into lists: both are marked.
    if isinstance(value, Tensor):
        name = str(len(tensors))
        value = full_tensor(value.detach())
        # Cloned, because tied tensors share memory and safetensors refuses that.
        tensors[name] = value.to("cpu", copy=True).contiguous() if is_main_process() else torch.empty(0)
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"dict": [[_encode(key, tensors), _encode(one, tensors)] for key, one in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_encode(one, tensors) for one in value]}
    if isinstance(value, list):
        return [_encode(one, tensors) for one in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise StorageError(
        f"{value!r} ({type(value).__name__}) cannot be kept; keep numbers, texts, lists, dicts and tensors."
    )


def _decode(value: Any, tensors: Any) -> Any:
    if isinstance(value, list):
        return [_decode(one, tensors) for one in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        tensor: torch.Tensor = tensors.get_tensor(value["tensor"])
        return tensor
    if "tuple" in value:
        return tuple(_decode(one, tensors) for one in value["tuple"])
    return {_decode(key, tensors): _decode(one, tensors) for key, one in value["dict"]}
