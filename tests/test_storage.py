"""Text passes through every file that the project writes as it was, whatever is in it."""

import json
import os
import stat

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from zoo_core.datasets.files import read_rows
from zoo_core.errors import StorageError
from zoo_core.models.loading import save_model
from zoo_core.session import checkpoint
from zoo_core.storage.atomic import write_json, write_rows, write_text
from zoo_core.testing.tiny import tiny_policy

# Line ends of Unicode, half a surrogate pair, NUL, right to left, Windows' and old Macs' line ends, a byte order mark.
STRANGE = "a\u2028b\u2029c\u0085d\ud83de\x00f\u202eg\r\nh\ri\x0b\x0cj\x1c\ufeffk"
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40)


@given(st.lists(ANY_TEXT, min_size=1, max_size=4))
@example([STRANGE, "\ufeff"])
def test_rows_are_read_as_they_were_written_one_a_line(tmp_path_factory, texts):
    path = tmp_path_factory.getbasetemp() / "rows.jsonl"
    rows = [{"prompt": text, text: [text]} for text in texts]
    write_rows(path, rows)
    found = read_rows(str(path))
    assert found == rows
    assert [row.where for row in found] == [f"{path}:{number + 1}" for number in range(len(rows))]


@given(ANY_TEXT)
@example(STRANGE)
def test_json_is_read_as_it_was_written(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "value.json"
    write_json(path, {text: [text]})
    assert json.loads(path.read_text(encoding="utf-8")) == {text: [text]}


def test_plain_text_keeps_its_line_ends_and_shows_what_utf_8_cannot_hold(tmp_path):
    write_text(tmp_path / "text.md", STRANGE)
    assert (tmp_path / "text.md").read_bytes() == STRANGE.replace("\ud83d", r"\ud83d").encode()


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o027, 0o077], ids=oct)
def test_every_file_has_the_mode_that_the_umask_gives(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "text.md", "text")
        write_json(tmp_path / "value.json", {})
        write_rows(tmp_path / "rows.jsonl", [])
        checkpoint.save(tmp_path / "checkpoint.safetensors", {"weight": torch.ones(2)})
        save_model(tiny_policy(), tmp_path / "model")
    finally:
        os.umask(before)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {file.name for file in files} >= {"text.md", "rows.jsonl", "checkpoint.safetensors", "model.safetensors"}
    assert {file.name: oct(stat.S_IMODE(file.stat().st_mode)) for file in files} == {
        file.name: oct(0o666 & ~umask) for file in files
    }


def test_a_file_where_a_folder_should_be_is_told_and_stays(tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(StorageError, match=r"taken/board\.json: cannot be written"):
        write_text(tmp_path / "taken" / "board.json", "{}")
    assert (tmp_path / "taken").read_text() == "mine"
