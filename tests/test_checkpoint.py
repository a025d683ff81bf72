"""A checkpoint comes back bit for bit, or not at all; what stood there before survives a full disk."""

import errno
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from zoo_core.errors import StorageError
from zoo_core.session import checkpoint
from zoo_core.storage import atomic as storage

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8"))
KEYS = st.integers() | st.text(st.characters(codec="utf-8"))
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner),
    max_leaves=12,
)


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.text(st.characters(codec="utf-8")), TREES))
def test_every_tree_comes_back_equal_in_value_and_type(tmp_path_factory, tree):
    path = tmp_path_factory.mktemp("tree") / "now.safetensors"
    checkpoint.save(path, tree)
    assert repr(checkpoint.load(path)) == repr(tree)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.bool, torch.uint8])
def test_tensors_of_every_type_and_form_keep_their_bits(tmp_path, dtype):
    tensor = torch.arange(12).reshape(3, 4).to(dtype)
    forms = {"plain": tensor, "turned": tensor.T, "number": tensor[1, 2], "empty": tensor[:0]}
    checkpoint.save(tmp_path / "now.safetensors", forms)
    for name, loaded in checkpoint.load(tmp_path / "now.safetensors").items():
        assert loaded.dtype == dtype
        assert torch.equal(loaded, forms[name])


def test_nan_and_infinity_survive(tmp_path):
    odd = {"tensor": torch.tensor([math.nan, -math.inf, -0.0]), "number": math.inf}
    checkpoint.save(tmp_path / "now.safetensors", odd)
    loaded = checkpoint.load(tmp_path / "now.safetensors")
    assert torch.equal(loaded["tensor"].view(torch.int32), odd["tensor"].view(torch.int32))
    assert loaded["number"] == math.inf


def test_the_state_of_adamw_with_its_integer_keys_and_tuples_can_be_loaded_again(tmp_path):
    layer = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    checkpoint.save(tmp_path / "now.safetensors", {"optimizer": optimizer.state_dict()})
    loaded = checkpoint.load(tmp_path / "now.safetensors")["optimizer"]
    assert loaded["param_groups"] == optimizer.state_dict()["param_groups"]
    assert torch.equal(loaded["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])
    torch.optim.AdamW(layer.parameters()).load_state_dict(loaded)


def test_tensors_that_share_memory_are_both_kept(tmp_path):
    weight = torch.arange(4.0)
    checkpoint.save(tmp_path / "now.safetensors", {"embedding": weight, "head": weight, "part": weight[:2]})
    loaded = checkpoint.load(tmp_path / "now.safetensors")
    assert torch.equal(loaded["embedding"], loaded["head"])
    assert torch.equal(loaded["part"], weight[:2])


@pytest.mark.parametrize("left", [0, 5, 100, -1])
def test_a_file_that_was_cut_off_is_refused_with_a_remedy(tmp_path, left):
    path = tmp_path / "now.safetensors"
    checkpoint.save(path, {"weight": torch.ones(100)})
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(StorageError, match=r"now.safetensors: not a readable checkpoint.*Delete it"):
        checkpoint.load(path)


def test_a_safetensors_file_of_someone_else_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"weight": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(StorageError, match="not a readable checkpoint"):
        checkpoint.load(tmp_path / "model.safetensors")


@pytest.mark.parametrize("write", ["checkpoint", "text"])
def test_a_full_disk_leaves_what_was_there_and_no_rubbish(tmp_path, monkeypatch, write):
    path = tmp_path / "file.safetensors"
    if write == "checkpoint":
        save, value = checkpoint.save, {"update": 1}
    else:
        save, value = storage.write_text, "before"
    save(path, value)
    before = path.read_bytes()

    def full(_, target, **__):
        if isinstance(target, Path):
            target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    monkeypatch.setattr(storage.os, "fsync", lambda _: full(None, None))
    with pytest.raises(StorageError, match="No space left on device"):
        save(path, value)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_objects_that_would_need_pickle_are_refused(tmp_path):
    with pytest.raises(StorageError, match=r"object.*cannot be kept; keep numbers"):
        checkpoint.save(tmp_path / "now.safetensors", {"thing": object()})


def test_json_is_sorted_and_refuses_nan(tmp_path):
    storage.write_json(tmp_path / "record.json", {"b": 1, "a": "ä"})
    assert (tmp_path / "record.json").read_text(encoding="utf-8") == '{\n "a": "ä",\n "b": 1\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        storage.write_json(tmp_path / "record.json", {"a": math.nan})


def test_a_writer_that_dies_before_renaming_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    path = tmp_path / "now.safetensors"
    checkpoint.save(path, {"update": 1})
    monkeypatch.setattr(type(path), "replace", die)
    with pytest.raises(Killed):
        checkpoint.save(path, {"update": 2})
    assert checkpoint.load(path) == {"update": 1}
