"""Laws of reading: what is on disk comes back, and what cannot be trusted is refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from zoo_leaderboard.load import load

from zoo_core.errors import StorageError

Make = Callable[..., dict[str, Any]]


@pytest.fixture
def folder(tmp_path: Path, make_bench: Make, make_record: Make) -> Path:
    (tmp_path / "records").mkdir()
    (tmp_path / "bench.json").write_text(json.dumps(make_bench()))
    for row, seed in (("b", 0), ("a", 1), ("a", 0)):
        record = make_record(row, seed, facts=0.5)
        (tmp_path / "records" / f"{row}-seed{seed}.json").write_text(json.dumps(record))
    return tmp_path


def change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_was_written_comes_back_by_row_and_seed(folder: Path, make_bench: Make, make_record: Make) -> None:
    bench, records = load(folder)
    assert bench == make_bench()
    assert records == [make_record(row, seed, facts=0.5) for row, seed in (("a", 0), ("a", 1), ("b", 0))]


def test_keys_of_later_minor_versions_are_let_through(folder: Path) -> None:
    change(folder / "records" / "a-seed0.json", news={"x": 1})
    assert load(folder)[1][0]["news"] == {"x": 1}  # type: ignore[typeddict-item]


def test_nan_and_infinity_are_read_as_null(folder: Path) -> None:
    change(folder / "records" / "a-seed0.json", audit_ratio=float("nan"), wall_seconds=float("inf"))
    record = load(folder)[1][0]
    assert record["audit_ratio"] is record["wall_seconds"] is None


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("bench.json", {"schema_version": 2}, "'schema_version' is 2"),
        ("records/a-seed0.json", {"schema_version": None}, "'schema_version' is None"),
        ("records/a-seed0.json", {"seed": "0"}, "key 'seed' is '0'"),
        ("records/a-seed0.json", {"kind": "winner"}, "key 'kind' is 'winner'"),
        ("records/a-seed0.json", {"scores": {}}, "key 'scores.gold' is missing"),
        ("records/a-seed0.json", {"scores": None}, "key 'scores' is null though 'status' is 'ok'"),
        ("records/a-seed0.json", {"bench_id": "other"}, "key 'bench_id' is 'other'"),
        ("records/a-seed0.json", {"row": "b"}, "repeats row 'b', seed 0"),
        ("records/a-seed0.json", {"kind": "reference"}, "key 'kind' of row 'a'"),
        ("bench.json", {"seeds": 0}, "key 'seeds' is '0'"),
    ],
)
def test_a_wrong_value_is_refused_with_file_and_key(
    folder: Path, name: str, changes: dict[str, Any], words: str
) -> None:
    change(folder / name, **changes)
    with pytest.raises(StorageError) as caught:
        load(folder)
    assert words in str(caught.value)


def test_every_missing_key_is_named(folder: Path, make_record: Make) -> None:
    path = folder / "records" / "a-seed0.json"
    whole = make_record("a", 0)
    for key in whole:
        path.write_text(json.dumps({name: value for name, value in whole.items() if name != key}))
        with pytest.raises(StorageError, match=f"a-seed0.json: key '{key}' is"):
            load(folder)


def test_a_file_that_is_nested_without_end_is_named(folder: Path) -> None:
    (folder / "bench.json").write_text("[" * 100_000)
    with pytest.raises(StorageError, match=r"bench\.json is not JSON, or was cut off"):
        load(folder)


def test_a_truncated_file_is_named(folder: Path) -> None:
    path = folder / "records" / "b-seed0.json"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(StorageError, match=r"b-seed0.json is not JSON, or was cut off"):
        load(folder)


def test_a_file_that_is_no_text_or_no_object_is_named(folder: Path) -> None:
    path = folder / "records" / "b-seed0.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StorageError, match=r"b-seed0.json is not JSON"):
        load(folder)
    path.write_text("[]")
    with pytest.raises(StorageError, match=r"b-seed0.json: key 'the file' is"):
        load(folder)


def test_a_folder_without_plan_or_records_says_what_to_run(folder: Path) -> None:
    with pytest.raises(StorageError, match="does not exist"):
        load(folder / "nowhere")
    for path in (folder / "records").iterdir():
        path.unlink()
    with pytest.raises(StorageError, match="holds no record"):
        load(folder)
