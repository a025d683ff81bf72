"""A model's folder that a person names: a wrong one is told at once, a good one is filled whole or not at all."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from zoo_harness import model_folder

from zoo_core.errors import ModelError, StorageError

CARD = "---\ntags:\n- rlhf-zoo\n---\n\n# dpo\n"


def folder(path: Path, **files: str) -> Path:
    path.mkdir(parents=True)
    for name, text in files.items():
        (path / name.replace("__", ".")).write_text(text)
    return path


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    return folder(tmp_path / "out/cells/dpo-seed0/final", config__json="new", model__safetensors="new", README__md=CARD)


def test_what_can_be_no_model_is_told_in_one_sentence_with_the_remedy(tmp_path: Path, trained: Path) -> None:
    (tmp_path / "out" / "bench.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    for path, said in (
        (tmp_path / "nowhere", "nowhere: there is no such directory"),
        (trained / "config.json", "config.json: this is a file"),
        (tmp_path / "out", f"the folder of a bench; name one of its models, as {trained}"),
        (trained.parent, f"the folder of a training; its model is {trained}"),
        (tmp_path / "empty", "the folder is empty"),
        (tmp_path, "is no model's folder"),
    ):
        with pytest.raises(ModelError) as caught:
            model_folder.check(path)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
    model_folder.check(trained)


@pytest.mark.parametrize(
    "arguments",
    [["eval", "nowhere"], *([*command, "--base", "./nowhere"] for command in (["bench"], ["plan"], ["train", "dpo"]))],
    ids=lambda arguments: arguments[0],
)
def test_a_model_that_is_not_there_is_told_before_anything_heavy_is_imported(
    arguments: list[str], tmp_path: Path
) -> None:
    code = (
        f"import sys; sys.argv = ['zoo', *{arguments}]\n"
        "from zoo_harness.cli import main\n"
        "try: main()\nexcept SystemExit as end: assert end.code == 2, end.code\n"
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules), 'heavy'"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "nowhere: there is no such directory" in done.stderr
    assert not any(tmp_path.iterdir())


def contents(path: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in path.iterdir()}


@pytest.mark.parametrize("before", ["absent", "empty", "ours"])
def test_a_model_is_put_where_nothing_is_lost(tmp_path: Path, trained: Path, before: str) -> None:
    place = tmp_path / "deep" / "model"
    if before != "absent":
        folder(place)
    if before == "ours":
        folder(tmp_path / "old", left_over__json="old", README__md=CARD).replace(place)
    model_folder.check_place(place)
    model_folder.put(trained, place)
    assert contents(place) == contents(trained)
    assert [path.name for path in place.parent.iterdir()] == ["model"]


@pytest.mark.parametrize(
    "files",
    [
        {"thesis__md": "years of work"},
        {"README__md": "# mine"},
        {"README__md": "---\ntags: [llama]\n---\n", "config__json": "{}"},
        {"README__md": CARD, "notes__py": "mine"},
        {"README__md": "---\ntags: [rlhf-zoo\n---\n"},
    ],
    ids=lambda files: "-".join(files),
)
def test_a_folder_with_anything_else_is_refused_and_left_as_it_is(tmp_path: Path, files: dict[str, str]) -> None:
    place = folder(tmp_path / "mine", **files)
    before = contents(place)
    with pytest.raises(StorageError, match="would be lost"):
        model_folder.check_place(place)
    assert contents(place) == before


def test_a_file_and_the_folder_one_stands_in_are_refused(
    tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    for place, said in ((trained / "config.json", "this is a file"), (Path(), "where you are"), (tmp_path, "you are")):
        with pytest.raises(StorageError, match=said):
            model_folder.check_place(place)


@pytest.mark.parametrize("fails", ["copy", "rename"])
def test_a_copy_that_fails_loses_neither_the_training_nor_what_was_there(
    tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    place = folder(tmp_path / "model", config__json="old", README__md=CARD)
    kept, new = contents(place), contents(trained)
    rename = Path.rename

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    def renamed(path: Path, target: Path) -> Path:
        return full() if path.suffix == ".new" else rename(path, target)  # type: ignore[func-returns-value,return-value]

    if fails == "copy":
        monkeypatch.setattr(shutil, "copyfile", full)
    else:
        monkeypatch.setattr(Path, "rename", renamed)
    with pytest.raises(StorageError, match=f"It is whole in {trained}"):
        model_folder.put(trained, place)
    assert contents(place) == kept
    assert contents(trained) == new
    assert {path.name for path in tmp_path.iterdir()} == {"model", "out"}
