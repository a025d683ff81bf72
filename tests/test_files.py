"""Rows come from the files that people have, compressed or not, and each error names the line."""

import gzip
import json

import pytest
from datasets import Dataset, DatasetDict

from zoo_core.datasets.files import read_rows, split_note
from zoo_core.errors import DataError
from zoo_core.registry.references import load_all

ROWS = [{"prompt": "a", "completion": "b, c"}, {"prompt": 'say "d"\nand é', "completion": "e"}]
TABLE = '\ufeffprompt,completion,id\r\n\r\na,"b, c",1\r\n"say ""d""\nand é",e,\r\n"f",g,3\r\n'


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("rows.jsonl", jsonl(ROWS), (1, 2)),
        ("rows.json", json.dumps(ROWS, indent=1), (2, 6)),
        ("rows.csv", TABLE, (3, 4)),
    ],
)
def test_a_file_is_read_alike_in_every_form_and_each_row_knows_its_line(tmp_path, name, text, lines, compressed):
    path = tmp_path / (f"{name}.gz" if compressed else name)
    path.write_bytes(gzip.compress(text.encode()) if compressed else text.encode())
    found = load_all(str(path), "demonstrations", 0)[:2]
    assert [(row.prompt, row.completion) for row in found] == [(row["prompt"], row["completion"]) for row in ROWS]
    assert [row.where for row in found] == [f"{path}:{line}" for line in lines]


def test_an_empty_cell_is_null_and_all_others_are_text(tmp_path):
    (tmp_path / "rows.csv").write_bytes(TABLE.encode())
    rows = read_rows(str(tmp_path / "rows.csv"))
    assert [row["id"] for row in rows] == ["1", None, "3"]
    (tmp_path / "null.csv").write_text("prompt,completion\na,b\nc,\n")
    with pytest.raises(DataError, match=r"null\.csv:3: 'completion' is null"):
        load_all(str(tmp_path / "null.csv"), "demonstrations", 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"prompt,id\na,1\nb\n", r":3: this row has 1 cells, and the first line names 2 columns\. Put text"),
        (b'prompt,id\na,1\n"b\n', r":3: this row is not CSV \(unexpected end of data\)"),
        (b'prompt,id\na,1\n"b"c,2\n', r":3: this row is not CSV"),
        (b"prompt,prompt\na,b\n", r":1: two columns are called 'prompt'"),
        (b"prompt\na\n\xe9\n", r":3: the file is not UTF-8"),
        (b"prompt\n", r": the file is empty; a line of names and rows below it was expected"),
        ("prompt\na\n".encode("utf-16"), r": the file is in UTF-16"),
    ],
)
def test_what_is_no_table_is_named_by_line(tmp_path, content, message):
    (tmp_path / "rows.csv").write_bytes(content)
    with pytest.raises(DataError, match=rf"rows\.csv{message}"):
        load_all(str(tmp_path / "rows.csv"), "prompts", 0)


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.csv.gz"])
def test_a_compressed_file_that_is_cut_or_none_is_named(tmp_path, name):
    for content in (gzip.compress(jsonl(ROWS).encode())[:-12], b'{"prompt": "a"}\n'):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"{name}: the file is no whole gzip file"):
            load_all(str(tmp_path / name), "prompts", 0)


def test_a_wrong_row_of_a_compressed_file_is_named_by_line(tmp_path):
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(b'{"prompt": "a"}\n{"prompt": \n'))
    with pytest.raises(DataError, match=r"rows\.jsonl\.gz:2: this line is not JSON"):
        load_all(str(tmp_path / "rows.jsonl.gz"), "prompts", 0)


# Splits of a saved data set


def saved(folder, **splits):
    DatasetDict({name: Dataset.from_list([{"prompt": text}]) for name, text in splits.items()}).save_to_disk(folder)
    return str(folder)


def first(ref):
    (row,) = load_all(ref, "prompts", 0)
    return row.prompt, row.where


def test_the_only_split_is_read_whatever_its_name(tmp_path):
    path = saved(tmp_path / "one", validation="a")
    assert first(path) == ("a", f"{path} row 0")
    assert split_note(path) == "the only split, 'validation', is read."
    assert split_note(saved(tmp_path / "usual", train="a")) is None


def test_of_several_splits_train_is_read_with_a_note_or_the_one_that_is_named(tmp_path):
    path = saved(tmp_path / "some", test="a", train="b")
    assert first(path) == ("b", f"{path} row 0")
    assert split_note(path) == "of the splits test, train 'train' is read; another one is some#split."
    assert first(f"{path}#test") == ("a", f"{path}#test row 0")
    assert split_note(f"{path}#test") is None


@pytest.fixture
def hub(monkeypatch):
    """Data sets that stand in for those of the hub."""
    there = {}

    def load(ref):
        return DatasetDict({name: Dataset.from_list([{"prompt": text}]) for name, text in there[ref].items()})

    monkeypatch.setattr("datasets.load_dataset", load)
    return there


def test_splits_of_a_hub_id_are_chosen_as_those_of_a_folder(hub):
    hub.update({"org/one": {"test": "a"}, "org/some": {"test": "b", "train": "c"}, "org/usual": {"train": "d"}})
    assert first("org/one") == ("a", "org/one row 0")
    assert split_note("org/one") == "the only split, 'test', is read."
    assert first("org/some") == ("c", "org/some row 0")
    assert split_note("org/some") == "of the splits test, train 'train' is read; another one is org/some#split."
    assert first("org/some#test") == ("b", "org/some#test row 0")
    assert split_note("org/some#test") is split_note("org/usual") is None


def test_a_hub_id_of_several_splits_without_train_is_answered_with_their_names(hub):
    hub["org/name"] = {"train_prefs": "a", "test_prefs": "b"}
    message = r"org/name: has the splits train_prefs, test_prefs but no 'train'; name one: org/name#train_prefs"
    with pytest.raises(DataError, match=message):
        first("org/name")
    with pytest.raises(DataError, match="but no 'dev'; name one"):
        first("org/name#dev")


def test_a_split_that_there_is_none_of_is_answered_with_those_that_are(tmp_path):
    path = saved(tmp_path / "some", test="a", train="b")
    with pytest.raises(DataError, match=r"has the splits test, train but no 'dev'; name one: some#test"):
        first(f"{path}#dev")
    Dataset.from_list([{"prompt": "a"}]).save_to_disk(tmp_path / "plain")
    with pytest.raises(DataError, match="is one data set without splits; leave out #dev"):
        first(f"{tmp_path / 'plain'}#dev")
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a"}\n')
    with pytest.raises(DataError, match="a file has no splits; leave out #dev"):
        first(f"{tmp_path / 'rows.jsonl'}#dev")


def test_a_file_whose_name_has_a_hash_is_a_file(tmp_path):
    (tmp_path / "a#b.jsonl").write_text('{"prompt": "a"}\n')
    assert first(str(tmp_path / "a#b.jsonl"))[0] == "a"
