"""A checkpoint comes back bit for bit, or not at all; what stood there before survives a full disk."""

import errno
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import nn

from zoo_core.errors import StorageError
from zoo_core.models.lora import add_adapter
from zoo_core.run import Run
from zoo_core.session import checkpoint
from zoo_core.session.still import CHUNK, Still, digest
from zoo_core.storage import atomic as storage
from zoo_core.testing.tiny import tiny_session

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


def names_in(path: Path) -> set[str]:
    with safe_open(path, framework="pt") as file:
        return set(file.keys())


def test_tensors_that_share_memory_are_written_once(tmp_path):
    weight = torch.arange(4.0)
    checkpoint.save(tmp_path / "now.safetensors", {"embedding": weight, "head": weight, "other": weight.clone()})
    assert names_in(tmp_path / "now.safetensors") == {"/embedding", "/other"}


def test_keys_that_look_alike_are_two_places(tmp_path):
    state = {0: torch.tensor(1.0), "0": torch.tensor(2.0), "[0]": torch.tensor(3.0), "a/b": torch.tensor(4.0)}
    state["a"] = {"b": torch.tensor(5.0)}
    checkpoint.save(tmp_path / "now.safetensors", {"kept": state})
    assert repr(checkpoint.load(tmp_path / "now.safetensors")) == repr({"kept": state})


def test_what_has_not_changed_is_written_twice_and_never_again(tmp_path):
    frozen, trained, still, now = torch.rand(50), torch.rand(50), Still(), tmp_path / "now.safetensors"
    written = []
    for update in range(4):
        checkpoint.save(now, {"policy": {"frozen": frozen, "trained": trained}, "update": update}, still)
        written.append(names_in(now))
        loaded = checkpoint.load(now)
        assert loaded["update"] == update
        assert torch.equal(loaded["policy"]["frozen"], frozen)
        assert torch.equal(loaded["policy"]["trained"], trained)
        trained += 1
    # The first time all is new. The second time what is the same goes to a file of its own.
    assert written == [{"/policy/frozen", "/policy/trained"}, *[{"/policy/trained"}] * 3]
    (beside,) = tmp_path.glob("still-*.safetensors")
    assert names_in(beside) == {"/policy/frozen"}


def test_what_changes_after_all_is_written_again(tmp_path):
    weight, still, now = torch.rand(50), Still(), tmp_path / "now.safetensors"
    for update in range(5):
        checkpoint.save(now, {"weight": weight}, still)
        assert torch.equal(checkpoint.load(now)["weight"], weight)
        if update == 2:
            weight.data[7] += 1.0  # which leaves no trace in the tensor's version
    assert names_in(now) == {"/weight"}


def test_a_run_that_goes_on_leaves_no_files_of_the_one_before_and_keeps_those_of_ends(tmp_path):
    state = {"weight": torch.rand(50)}
    for _ in range(2):
        still = Still()
        for _ in range(3):
            checkpoint.save(tmp_path / "now.safetensors", state, still)
    assert len(list(tmp_path.glob("still-*"))) == 1
    checkpoint.save(tmp_path / "end-sft.safetensors", state, still)
    again = Still()
    for _ in range(3):
        checkpoint.save(tmp_path / "now.safetensors", state, again)
    assert len(list(tmp_path.glob("still-*"))) == 2
    for name in ("now", "end-sft"):
        assert torch.equal(checkpoint.load(tmp_path / f"{name}.safetensors")["weight"], state["weight"])


def test_the_end_of_a_stage_within_a_stage_finds_what_has_not_changed(tmp_path):
    state, still = {"weight": torch.rand(50)}, Still(tmp_path)
    ends = [tmp_path / "now.safetensors", tmp_path / "end-outer" / "inner.safetensors"]
    for path in (*ends, ends[1]):
        checkpoint.save(path, state, still)
    assert len(list(tmp_path.rglob("still-*"))) == 1
    again = Still(tmp_path)
    for _ in range(2):
        checkpoint.save(ends[0], state, again)
    for path in ends:
        assert torch.equal(checkpoint.load(path, tmp_path)["weight"], state["weight"])


@pytest.mark.parametrize("harm", ["gone", "cut"])
def test_a_file_of_unchanged_tensors_that_is_damaged_is_refused_with_a_remedy(tmp_path, harm):
    still, now = Still(), tmp_path / "now.safetensors"
    for _ in range(2):
        checkpoint.save(now, {"weight": torch.ones(50)}, still)
    (beside,) = tmp_path.glob("still-*")
    beside.unlink() if harm == "gone" else beside.write_bytes(beside.read_bytes()[:90])
    with pytest.raises(StorageError, match=r"now.safetensors: not a readable checkpoint.*Delete it"):
        checkpoint.load(now)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 99), st.integers(0, 7), st.sampled_from([torch.float32, torch.bfloat16, torch.uint8, torch.bool]))
def test_every_change_of_one_bit_changes_the_sum(place: int, bit: int, dtype: torch.dtype):
    tensor = torch.rand(100).gt(0.5) if dtype is torch.bool else (100 * torch.rand(100)).to(dtype)
    before = digest(tensor)
    assert digest(tensor.clone()) == before
    tensor.view(torch.uint8)[place] ^= 1 << (0 if dtype is torch.bool else bit)
    assert digest(tensor) != before


def test_two_numbers_that_change_places_change_the_sum():
    tensor = torch.rand(3 * CHUNK)
    before = digest(tensor)
    for one, other in ((0, 1), (0, 2), (4, 2 * CHUNK + 4), (0, 2 * CHUNK)):
        turned = tensor.clone()
        turned[[one, other]] = tensor[[other, one]]
        assert digest(turned) != before


def test_adapters_are_written_and_what_is_frozen_under_them_is_not(tmp_path):
    session = tiny_session(("prompts", "reward"), directory=tmp_path)
    run = Run(session)
    adapters = add_adapter(run.policy, "mine", 2)
    sizes = []
    for _ in run.updates(most=4):
        for weight in adapters:
            weight.data += 0.1
        sizes.append((tmp_path / "now.safetensors").stat().st_size if (tmp_path / "now.safetensors").exists() else 0)
    whole = sum(weight.nbytes for weight in run.policy.parameters())
    assert sizes[1] > whole
    assert sizes[3] < whole / 4
