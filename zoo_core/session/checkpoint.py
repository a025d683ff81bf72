"""Checkpoints without pickle: one safetensors file with the tensors; everything else is JSON in its header.

It is one file, so that tensors and ledger are always of the same moment. It is written to a temporary file, flushed to
disk and renamed, so that a reader sees the old checkpoint or the new one. Tensors that do not change (still.py) are in
a file beside it, which is written once, before the first checkpoint that names it.
"""

import json
import os
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from zoo_core.compute.processes import barrier, is_main_process
from zoo_core.compute.sharding import full_tensor
from zoo_core.errors import StorageError
from zoo_core.session.still import Still
from zoo_core.storage.atomic import give_ordinary_mode

Store = Callable[[Tensor, str], dict[str, str]]
"""A function that stores the tensor at a place of the tree, and returns what stands for it there."""


def save(path: Path, state: Mapping[str, Any], still: Still | None = None) -> None:
    """Write a tree of dicts, lists, tuples, numbers, strings, None and tensors; `StorageError` if the disk is full.

    With `still`, tensors that have not changed since it was last given are not written again.
    Rank 0 writes full tensors, so that any number of ranks can read them. Collective.
    """
    known = still or Still()
    tensors, fresh = dict[str, Tensor](), dict[str, Tensor]()
    named: dict[tuple[object, ...], dict[str, str]] = {}

    def store(tensor: Tensor, place: str) -> dict[str, str]:
        here = tensor.detach()
        whole = full_tensor(here)
        if not is_main_process():
            return {}
        # Tied tensors share memory, which safetensors refuses: they are written once. (What was gathered from shards
        # is freed again, and its memory is soon another's.)
        memory = (whole.data_ptr(), whole.dtype, whole.shape, whole.stride()) if whole is here else (place,)
        if whole.numel() and memory in named:
            return named[memory]
        where = known.look(place, whole)
        if where is None:
            tensors[place] = whole.to("cpu", copy=True).contiguous()
        elif where == known.next:
            fresh[place] = whole.to("cpu", copy=True).contiguous()
        named[memory] = {"tensor": place} if where is None else {"tensor": place, "file": where}
        return named[memory]

    tree = json.dumps(_encode(state, "", store))
    if is_main_process():
        if fresh:
            _write((known.folder or path.parent) / known.next, {}, fresh)
            known.wrote(fresh)
        _write(path, {"tree": tree, "files": json.dumps(sorted(known.files))}, tensors)
        if fresh:
            _tidy(known.folder or path.parent)
    barrier()


def load(path: Path, folder: Path | None = None) -> dict[str, Any]:
    """Return the state that `save` wrote, bit for bit; `folder` has the files of unchanged tensors, as for `Still`."""
    try:
        with ExitStack() as opened:
            files = {"": opened.enter_context(safe_open(path, framework="pt"))}
            written = files[""].metadata()
            for name in json.loads(written["files"]):
                file = (folder or path.parent) / Path(name).name
                files[name] = opened.enter_context(safe_open(file, framework="pt"))
            state: dict[str, Any] = _decode(json.loads(written["tree"]), files)
            return state
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise StorageError(
            f"{path}: not a readable checkpoint ({error}). Delete it to begin this run again."
        ) from error


def _write(path: Path, metadata: dict[str, str], tensors: dict[str, Tensor]) -> None:
    temporary = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, temporary, metadata=metadata)
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


def _tidy(folder: Path) -> None:
    """Remove the files of unchanged tensors that no checkpoint names any more: of a process before this one."""
    used: set[str] = set()
    for path in folder.rglob("*.safetensors"):  # the end of a stage within a stage has a folder of its own
        with safe_open(path, framework="pt") as file:
            used |= set(json.loads((file.metadata() or {}).get("files", "[]")))
    for path in folder.glob("still-*.safetensors"):
        if path.name not in used:
            path.unlink(missing_ok=True)


def _encode(value: Any, place: str, store: Store) -> Any:
    # JSON would turn integer keys (AdamW's state) into strings and tuples (betas) into lists: both are marked.
    if isinstance(value, Tensor):
        return store(value, place)
    if isinstance(value, Mapping):
        pairs = value.items()
        return {"dict": [[_encode(key, "", store), _encode(one, f"{place}/{_name(key)}", store)] for key, one in pairs]}
    if isinstance(value, (tuple, list)):
        found = [_encode(one, f"{place}/{number}", store) for number, one in enumerate(value)]
        return {"tuple": found} if isinstance(value, tuple) else found
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise StorageError(
        f"{value!r} ({type(value).__name__}) cannot be kept; keep numbers, texts, lists, dicts and tensors."
    )


def _name(key: object) -> str:
    """Return a part of a place: no two keys of a dict have the same, and no two places."""
    if isinstance(key, str):
        return key if re.fullmatch(r"[\w.-]+", key) else repr(key)
    return f"[{key!r}]"


def _decode(value: Any, files: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_decode(one, files) for one in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        tensor: torch.Tensor = files[value.get("file", "")].get_tensor(value["tensor"])
        return tensor
    if "tuple" in value:
        return tuple(_decode(one, files) for one in value["tuple"])
    return {_decode(key, files): _decode(one, files) for key, one in value["dict"]}
