"""Laws of reading: what is on disk comes back, and what cannot be trusted is refused by name."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from zoo_leaderboard.board import build
from zoo_leaderboard.bundle import about_of, derived
from zoo_leaderboard.load import load
from zoo_leaderboard.planned import unplanned
from zoo_leaderboard.recount import wrong_in

from zoo_core.errors import StorageError

Make = Callable[..., dict[str, Any]]


EVERYTHING: dict[str, dict[str, Any]] = {
    "bench.json": {
        "spec": {"first_seed": 0, "gold": "judge:x"},
        "data": {"prompts": {"rows": [3], "dropped": [0], "alike": [0], "answers": [0], "cut": [0], "sha256": ["p0"]}},
        "hashes": {"judge:x": "j1"},
        "code": {"zoo-a": {"version": "0.1.0", "sha256": "c1"}},
        "algorithms": [{"row": "a", "algorithm": "a", "settings": {"beta": 0.1}, "kind": "algorithm"}],
        "sources": [{"name": "one", "sha256": "ab" * 32, "rows": ["a"]}],
    },
    "records": {
        "control": "random",
        "settings": {"beta": 0.1},
        "searched": {"points": 16, "beat_sft": 4},
        "checked": {"held": 19, "tried": 20},
        "stages": [{"name": "sft", "flops": 1e9, "seconds": 1.0}],
        "curve": [{"fraction": 0.5, "flops": 1e9, "gold": 0.4, "proxy": 0.1, "kl_start": 1.0, "length": 9.0}],
        "trials": {
            "tried": [{"settings": {}, "gold": 0.5, "proxy": 0.1, "flops": 1e9, "error": None}] * 2,
            "chosen": 0,
            "by_proxy": 1,
        },
        "tier": "recomputed",
    },
}
"""Keys that a plan and a record may have beyond those that they must."""


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
    path = folder / "records" / "a-seed0.json"
    change(path, audit_ratio=float("nan"), wall_seconds=float("inf"), flops_used=1.5)
    path.write_text(path.read_text().replace("1.5", "1e999"))
    record = load(folder)[1][0]
    assert record["audit_ratio"] is record["wall_seconds"] is record["flops_used"] is None


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
        ("records/a-seed0.json", {"row": "b"}, "a-seed0.json holds row 'b', seed 0, whose file is b-seed0.json"),
        ("records/a-seed0.json", {"kind": "reference"}, "key 'kind' of row 'a'"),
        (
            "records/a-seed0.json",
            {"flops_by_role_phase": {"policy/discount": -5e11}},
            "'flops_by_role_phase.policy/discou",
        ),
        ("records/a-seed0.json", {"updates": -1}, "key 'updates' is '-1'"),
        ("records/a-seed0.json", {"reward": "length"}, "key 'reward' of row 'a'"),
        ("records/a-seed0.json", {"seed": 7}, "a-seed0.json holds row 'a', seed 7, whose file is a-seed7.json"),
        ("records/a-seed0.json", {"control": "wishes"}, "key 'control' is 'wishes'"),
        ("bench.json", {"seeds": 0}, "key 'seeds' is '0'"),
        ("bench.json", {"seeds": 10**400}, "the number 10000000000000000000... is too large"),
        ("bench.json", {"spec": {"first_seed": "abc"}}, "key 'spec.first_seed' is 'abc', and no whole number"),
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


def test_a_key_that_stands_twice_is_refused(folder: Path) -> None:
    path = folder / "records" / "a-seed0.json"
    path.write_text(path.read_text().replace('"status": "ok"', '"status": "failed", "status": "ok"'))
    with pytest.raises(StorageError, match="the key 'status' stands twice in one object"):
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


def places(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the way to each value of some JSON; of a list, to its first."""
    keys = value if isinstance(value, dict) else range(min(1, len(value))) if isinstance(value, list) else ()
    for key in keys:
        yield (*place, key)
        yield from places(value[key], (*place, key))


def with_other(value: Any, place: tuple[str | int, ...], other: object) -> Any:
    changed = part = copy.deepcopy(value)
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = other
    return changed


@pytest.mark.parametrize("name", ["bench.json", "records/a-seed0.json"])
@pytest.mark.parametrize("other", [None, -1, "x", 1e300, [], {}])
def test_whatever_stands_in_a_file_is_refused_in_words_or_makes_a_board(folder: Path, name: str, other: object) -> None:
    path = folder / name
    for missing in ("bench.json", "records/a-seed0.json", "records/a-seed1.json"):
        change(folder / missing, **EVERYTHING[missing.partition("/")[0]])
    whole = json.loads(path.read_text())
    made = 0
    for place in places(whole):
        path.write_text(json.dumps(with_other(whole, place, other)))
        try:
            bench, records = load(folder)
        except StorageError:
            continue
        told = [*unplanned(bench, records[0]), *wrong_in(records[0], None)]
        board = build(bench, records)
        assert all(derived(board, about_of(bench, records, None, space=False)).values())
        made += 1 + len(told)
    assert made
