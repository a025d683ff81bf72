"""Laws of a published board: same bytes twice; a changed byte is found, and so is a number that does not follow."""

import json
import math
import os
import runpy
import shutil
from collections.abc import Callable, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from zoo_leaderboard.board import build
from zoo_leaderboard.bundle import MANIFEST, Frozen, about_of, derived, files_in, pack, read_manifest, sealed, write
from zoo_leaderboard.load import load
from zoo_leaderboard.merge import merge
from zoo_leaderboard.recount import of_items
from zoo_leaderboard.verify import verify
from zoo_leaderboard.write import as_json

from zoo_core.errors import StorageError

Make = Callable[..., dict[str, Any]]
Write = Callable[..., Path]

ROOT = Path(__file__).parents[2]
TRIAL = {"settings": {}, "proxy": 0.5, "flops": 1e9, "error": None}
PROMPTS = ("say hi", "say bye", "count to two")


def answers(golds: Sequence[float], starts: Sequence[float]) -> list[dict[str, Any]]:
    return [
        {"prompt": prompt, "response": f"well {prompt} then", "gold": gold, "proxy": gold * 2, "ended": True,
         "gold_start": start, "proxy_start": start * 2}
        for prompt, gold, start in zip(PROMPTS, golds, starts, strict=True)
    ]  # fmt: skip


@pytest.fixture
def write_bench(tmp_path: Path, make_bench: Make, make_record: Make) -> Write:
    """Return a function that writes a bench whose numbers all follow from each other."""

    def write(name: str, rows: Sequence[str] = ("dpo",), seeds: Sequence[int] = (0, 1), start: float = 0.2,
              weights: str = "cd", **changes: Any) -> Path:  # fmt: skip
        folder, budget = tmp_path / name, changes.get("flops_budget", 1e12)
        (folder / "records").mkdir(parents=True)
        data = {name: [0] * len(seeds) for name in ("rows", "dropped", "alike", "answers", "cut")}
        bench = make_bench(
            seeds=len(seeds),
            spec={"first_seed": seeds[0], "gold": "judge:x"},
            data={"prompts": data | {"sha256": [f"p{seed}" for seed in seeds]}},
            hashes={"judge:x": "j1"},
            code={f"zoo-{row}": {"version": "0.1.0", "sha256": "c1"} for row in rows},
            algorithms=[{"row": row, "algorithm": row, "settings": {}, "kind": "algorithm"} for row in rows],
        )
        (folder / "bench.json").write_text(json.dumps(bench | changes))
        for seed in seeds:
            starts = [start + 0.1 * place + 0.01 * seed for place in range(3)]
            for place, row in enumerate(("start", *rows)):
                golds = starts if row == "start" else [value + 0.1 * (place + 1) + 0.02 * seed for value in starts]
                items = answers(golds, starts) if row != "start" else [
                    one | {"gold_start": None, "proxy_start": None} for one in answers(golds, golds)
                ]  # fmt: skip
                record = make_record(
                    row, seed, facts=0.5, items=items, weights_sha256=f"{weights}-{row}-{seed}",
                    wall_seconds=60.0 + 0.1 * len(name), flops_budget=budget, **of_items(items)
                )  # fmt: skip
                record["flops_used"] = sum(record["flops_by_role_phase"].values())
                (folder / "records" / f"{row}-seed{seed}.json").write_text(json.dumps(record))
        return folder

    return write


@pytest.fixture
def bundle(write_bench: Write, tmp_path: Path) -> Path:
    pack(write_bench("bench"), tmp_path / "bundle")
    return tmp_path / "bundle"


def faults(folder: Path) -> list[str]:
    return [str(fault) for fault in verify(folder).faults]


def reseal(folder: Path, **changes: Any) -> None:
    """Write the manifest that a forger would: right hashes of wrong files."""
    from zoo_leaderboard.bundle import file_of

    about = {key: value for key, value in read_manifest(folder).items() if key not in ("files", "sha256")} | changes
    (folder / MANIFEST).write_text(as_json(sealed(about, {name: file_of(folder / name) for name in files_in(folder)})))


def test_a_bundle_verifies_and_has_the_same_bytes_when_it_is_made_twice(write_bench: Write, tmp_path: Path) -> None:
    bench = write_bench("bench")
    first, second = pack(bench, tmp_path / "one"), pack(bench, tmp_path / "two")
    assert faults(tmp_path / "one") == []
    assert first == second
    names = [*files_in(tmp_path / "one"), MANIFEST]
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names)
    assert {"index.html", "README.md", "leaderboard.csv", "leaderboard.tex", "bench.json"} <= set(names)


def nudged(value: Any, towards: float) -> Any:
    """Return JSON each of whose fractions is the next number that a processor knows."""
    if isinstance(value, dict):
        return {key: nudged(part, towards) for key, part in value.items()}
    if isinstance(value, list):
        return [nudged(part, towards) for part in value]
    return math.nextafter(value, towards) if isinstance(value, float) and not value.is_integer() else value


@pytest.mark.parametrize("towards", [-math.inf, math.inf])
def test_last_digits_in_which_processors_differ_change_no_byte_of_what_is_computed(
    write_bench: Write, tmp_path: Path, towards: float
) -> None:
    bench, records = load(write_bench("bench", rows=("dpo", "sft", "ppo"), seeds=(0, 1, 2)))
    about = about_of(bench, records, None, space=False)
    whole = derived(build(bench, records), about)
    other = derived(build(bench, nudged(records, towards)), about)
    assert other.keys() == whole.keys()
    assert all(other[name] == whole[name] for name in whole)


def test_a_bundle_reads_as_the_bench_that_it_was_made_of(write_bench: Write, tmp_path: Path) -> None:
    bench = write_bench("bench")
    pack(bench, tmp_path / "bundle")
    assert load(tmp_path / "bundle") == load(bench)


def test_the_schemas_that_are_published_are_those_of_the_types_and_a_bundle_fits_them(bundle: Path) -> None:
    found = runpy.run_path(str(ROOT / "tests" / "schemas.py"))
    for name, text in found["schemas"]().items():
        assert (ROOT / "docs" / "schema" / name).read_text() == text, "python tests/schemas.py"
    for name, file in (("bundle-1", MANIFEST), ("bench-1", "bench.json"), ("record-1", "records/dpo-seed0.json")):
        schema = json.loads((ROOT / "docs" / "schema" / f"{name}.json").read_text())
        value = json.loads((bundle / file).read_text())
        jsonschema.validate(value, schema)
        for key in schema["required"]:
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate({one: value[one] for one in value if one != key}, schema)


def change_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    "tamper",
    [change_a_byte, lambda path: path.write_bytes(path.read_bytes() + b"\n"), lambda path: path.unlink()],
    ids=["a byte is changed", "a line is added", "it is removed"],
)
def test_whatever_is_done_to_a_file_is_found_and_the_file_is_named(
    bundle: Path, tamper: Callable[[Path], None]
) -> None:
    for name in files_in(bundle):
        path = bundle / name
        before = path.read_bytes()
        tamper(path)
        assert any(fault.startswith(f"{name}: ") for fault in faults(bundle)), name
        path.write_bytes(before)
    assert faults(bundle) == []


def test_a_pipe_among_the_files_is_named_and_not_waited_for(bundle: Path) -> None:
    os.mkfifo(bundle / "pipe")
    assert faults(bundle) == ["pipe: is a link or a device; a bundle holds files"]
    os.mkfifo(bundle / "records" / "z-seed0.json")
    assert any("z-seed0.json is no file" in fault for fault in faults(bundle))


def test_every_byte_of_the_manifest_counts(bundle: Path) -> None:
    before = (bundle / MANIFEST).read_bytes()
    for place in range(0, len(before), 31):
        (bundle / MANIFEST).write_bytes(before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :])
        try:
            found = faults(bundle)
        except StorageError as error:  # no manifest any more
            found = [str(error)]
        assert MANIFEST in " ".join(found), place
    (bundle / MANIFEST).write_bytes(before.replace(b"\n", b"\r\n"))
    assert faults(bundle) == [f"{MANIFEST}: its bytes are not those that a manifest of this content has"]


def test_a_file_that_was_added_or_is_a_link_is_named(bundle: Path) -> None:
    (bundle / "records" / "more-seed9.json").write_text("{}")
    (bundle / "leaderboard.csv").rename(bundle.parent / "elsewhere.csv")
    os.symlink(bundle.parent / "elsewhere.csv", bundle / "leaderboard.csv")
    found = " ".join(faults(bundle))
    assert "records/more-seed9.json: is not of the bundle" in found
    assert "leaderboard.csv: is a link" in found


def forge(bundle: Path, name: str, change: Callable[[dict[str, Any]], None]) -> list[str]:
    path = bundle / name
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value, indent=1))
    reseal(bundle)
    return faults(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: one["scores"].update(gold=0.9), "scores.gold is 0.9, and its 3 answers give"),
        (lambda one: one["scores"].update(win_start=0.1), "scores.win_start is 0.1, and its 3 answers give 1.0"),
        (lambda one: one["scores"].update(identical=0.9), "scores.identical is 0.9, and its 3 answers give"),
        (lambda one: one["items"][1].update(gold=0.99), "scores.gold is"),
        (lambda one: one["items"][0].update(gold_start=0.0), "items[0].gold_start is 0.0, and `start` has"),
        (lambda one: one["items"][0].update(prompt="easy"), "items[0] answers another prompt"),
        (
            lambda one: one["scores"].update(
                objective={"what": "loss on pairs", "before": 0.6, "after": 0.7, "better": True}
            ),
            "scores.objective.better is True, and it went from 0.6 to 0.7",
        ),
        (lambda one: one["scores"].pop("identical"), "scores.identical is None, and its 3 answers give"),
        (lambda one: one["items"][0].update(proxy_start=-9.0), "items[0].proxy_start is -9.0, and `start` has"),
        (lambda one: one["items"][0].pop("ended"), "items[0].ended is known of one of it and `start`"),
        (
            lambda one: one["scores"]["tasks"].update(sums={"score": 1.0, "stderr": None, "chance": 0.0, "n": 9}),
            "scores.tasks: only one of it and `start` has sums",
        ),
        (
            lambda one: one["scores"]["tasks"]["facts"].update(chance=-1000.0),
            "scores.tasks.facts has another metric, chance, or number of questions than that of `start`",
        ),
        (
            lambda one: one["scores"].update(objective={"what": "reward", "before": -1, "after": 9, "better": True}),
            "scores.objective is not what the reward of by_temperature.0.5 of it and `start` says",
        ),
        (
            lambda one: one["scores"].update(temperature=0.0),
            "scores.temperature is 0, which is not the best of scores.by_temperature",
        ),
        (
            lambda one: one.update(
                trials={"tried": [{**TRIAL, "gold": 0.3}, {**TRIAL, "gold": 0.4}], "chosen": 0, "by_proxy": 0}
            ),
            "trials.chosen is 0, which is not the best of trials.tried",
        ),
        (lambda one: one["items"].pop(), "it has 2 answers, and `start` has 3"),
        (lambda one: one.update(flops_used=1.0), "flops_used is 1.0, and flops_by_role_phase adds up to"),
        (lambda one: one["stages"].append({"name": "sft", "flops": 9e12, "seconds": 1}), "its stages took 9e+12 FLOPs"),
    ],
)  # fmt: skip
def test_a_forged_record_with_right_hashes_is_found(bundle: Path, change: Any, message: str) -> None:
    found = [fault for fault in forge(bundle, "records/dpo-seed1.json", change) if message in fault]
    assert found
    assert all(fault.startswith("records/dpo-seed1.json: ") for fault in found)


def test_a_forged_board_or_page_with_right_hashes_is_found(bundle: Path) -> None:
    for name in ("leaderboard.json", "index.html", "README.md", "leaderboard.csv", "leaderboard.tex"):
        before = (bundle / name).read_bytes()
        (bundle / name).write_bytes(before.replace(b"dpo", b"ppo"))
        reseal(bundle)
        assert faults(bundle) == [f"{name}: is not what its records give"]
        (bundle / name).write_bytes(before)
    reseal(bundle)
    assert faults(bundle) == []


@pytest.mark.parametrize(
    "changes",
    [{"budget": 5e11}, {"seeds": [0, 1, 2]}, {"commit": "f" * 40}, {"code": {}}, {"name": "another"}, {"data": {}}],
)
def test_a_manifest_that_says_otherwise_than_its_records_is_found(bundle: Path, changes: dict[str, Any]) -> None:
    reseal(bundle, **changes)
    (key,) = changes
    assert [fault for fault in faults(bundle) if fault.startswith(f"{MANIFEST}: {key} is")]


@pytest.mark.parametrize("name", ["index.html", "README.md", "leaderboard.json", "leaderboard.csv", "leaderboard.tex"])
def test_a_page_or_table_that_is_neither_there_nor_listed_is_named(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    reseal(bundle)
    assert faults(bundle) == [f"{name}: is missing, and the manifest does not list it"]


def test_a_key_that_no_manifest_has_is_a_fault(bundle: Path) -> None:
    reseal(bundle, approved_by="everyone")
    assert f"{MANIFEST}: approved_by is no key of a manifest" in faults(bundle)


def test_pages_of_another_version_are_not_compared_and_that_is_said(bundle: Path) -> None:
    reseal(bundle, made_with="0.0.9")
    verdict = verify(bundle)
    assert verdict.faults == []
    assert "made with zoo-leaderboard 0.0.9" in verdict.notes[0]


def test_a_record_that_cannot_be_read_is_a_fault_of_that_file(bundle: Path) -> None:
    (bundle / "records" / "dpo-seed0.json").write_text('{"schema_version": 1}')
    reseal(bundle)
    assert faults(bundle)[0].startswith("records/dpo-seed0.json: ")


def test_a_bundle_replaces_an_older_one_and_stands_in_no_folder_with_other_files(
    write_bench: Write, bundle: Path, tmp_path: Path
) -> None:
    (bundle / ".nojekyll").touch()
    pack(write_bench("smaller", seeds=(0,)), bundle)
    assert not (bundle / "records" / "dpo-seed1.json").exists()
    assert (bundle / ".nojekyll").exists()
    assert faults(bundle) == []
    before = (bundle / MANIFEST).read_bytes()
    (bundle / "thesis.txt").write_text("all of it")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    for target in (bundle, tmp_path / "mine", tmp_path / "mine" / "thesis.txt", tmp_path / "smaller"):
        with pytest.raises(StorageError, match=r"name (a|another)"):
            pack(tmp_path / "smaller", target)
    assert (bundle / MANIFEST).read_bytes() == before
    with pytest.raises(StorageError, match="is no bundle"):
        verify(tmp_path / "mine")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flops_budget": 2e12}, "budget: 2000000000000.0, not 1000000000000.0"),
        ({"base": {"ref": "world:base", "sha256": "ee" * 32, "parameters": 1}}, "base sha256: 'eeee"),
        ({"tasks": ["sums"]}, "tasks: ['sums'], not ['facts']"),
        ({"hashes": {"judge:x": "j2"}}, "hash of judge:x: 'j2', not 'j1'"),
        ({"spec": {"first_seed": 0, "gold": "judge:y"}}, "gold: 'judge:y', not 'judge:x'"),
    ],
)
def test_bundles_that_compare_something_else_are_not_joined_and_the_difference_is_named(
    write_bench: Write, bundle: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    pack(write_bench("another", rows=("ppo",), **changes), tmp_path / "second")
    with pytest.raises(StorageError) as error:
        merge([bundle, tmp_path / "second"], tmp_path / "both")
    assert message in str(error.value)
    assert not (tmp_path / "both").exists()


def test_other_data_and_another_meter_are_named_too(write_bench: Write, bundle: Path, tmp_path: Path) -> None:
    other = write_bench("another", rows=("ppo",))
    plan = json.loads((other / "bench.json").read_text())
    plan["data"]["prompts"]["sha256"][1] = "q1"
    (other / "bench.json").write_text(json.dumps(plan))
    for path in (other / "records").iterdir():
        path.write_text(json.dumps(json.loads(path.read_text()) | {"environment": {"meter_version": 9}}))
    pack(other, tmp_path / "second")
    with pytest.raises(StorageError, match=r"data: prompts of seed 1: 'q1', not 'p1'\n  meter version: \['9'\]"):
        merge([bundle, tmp_path / "second"], tmp_path / "both")


def test_bundles_that_name_no_data_in_common_are_not_joined(write_bench: Write, bundle: Path, tmp_path: Path) -> None:
    pack(write_bench("another", rows=("ppo",), data={}), tmp_path / "second")
    with pytest.raises(StorageError, match="data: they name no set in common"):
        merge([bundle, tmp_path / "second"], tmp_path / "both")


def pack_of(write_bench: Write, place: Path, name: str, **what: Any) -> Path:
    """Write a bundle of another bench, and return its folder."""
    pack(write_bench(f"bench of {name}", **what), place / name)
    return place / name


def board_of(folder: Path) -> dict[str, Any]:
    board: dict[str, Any] = json.loads((folder / "leaderboard.json").read_text())
    return board | {"rows": {row["row"]: row for row in board["rows"]}}


def test_rows_of_two_people_with_one_start_are_one_board(write_bench: Write, bundle: Path, tmp_path: Path) -> None:
    pack(write_bench("another", rows=("ppo",)), tmp_path / "second")
    merge([bundle, tmp_path / "second"], tmp_path / "both")
    assert faults(tmp_path / "both") == []
    board = board_of(tmp_path / "both")
    assert set(board["rows"]) == {"start", "dpo", "ppo"}
    assert "Recomputed: dpo, ppo." in board["conditional_notes"]
    assert "Re-run: start." in board["conditional_notes"]
    assert json.loads((tmp_path / "both" / "bench.json").read_text())["grew"]
    assert board["rows"]["ppo"]["headline"] == board_of(tmp_path / "second")["rows"]["ppo"]["headline"]


def test_a_row_that_two_people_ran_with_the_same_weights_counts_as_run_again(
    write_bench: Write, bundle: Path, tmp_path: Path
) -> None:
    pack(write_bench("another", seeds=(0, 1, 2)), tmp_path / "second")
    merge([bundle, tmp_path / "second"], tmp_path / "both")
    board = board_of(tmp_path / "both")
    assert set(board["rows"]) == {"start", "dpo"}
    assert board["rows"]["dpo"]["seeds"] == [0, 1, 2]
    merge([tmp_path / "both", pack_of(write_bench, tmp_path, "third", rows=("ppo",), seeds=(3,))], tmp_path / "all")
    (note,) = [note for note in board_of(tmp_path / "all")["conditional_notes"] if note.startswith("Unfinished")]
    assert note == "Unfinished, not ranked: ppo, dpo. Join bundles that have the missing seeds to go on."
    assert "Recomputed: dpo, start." in board["conditional_notes"]  # seed 2 was run by one of them alone
    manifest = read_manifest(tmp_path / "both")
    assert manifest["seeds"] == [0, 1, 2]
    assert manifest["data"] == {"prompts": ["p0", "p1", "p2"]}


def test_a_row_with_other_weights_stands_beside_the_first_and_is_measured_against_its_own_start(
    write_bench: Write, bundle: Path, tmp_path: Path
) -> None:
    second = pack(write_bench("another", start=0.4, weights="ef"), tmp_path / "second")
    merge([bundle, tmp_path / "second"], tmp_path / "both")
    assert faults(tmp_path / "both") == []
    mark, board = second["sha256"][:8], board_of(tmp_path / "both")
    assert set(board["rows"]) == {"start", "dpo", f"start.{mark}", f"dpo.{mark}"}
    alone = board_of(tmp_path / "second")["rows"]["dpo"]
    for name in ("headline", "gold_delta_start", "capability_delta_start"):
        assert board["rows"][f"dpo.{mark}"][name] == alone[name]


@pytest.mark.parametrize(("path", "sha256", "is_one"), [("/b/teacher", "aa", True), ("/a/teacher", "bb", False)])
def test_seeds_of_a_row_whose_setting_names_a_file_are_joined_by_what_is_in_it_wherever_it_lies(
    write_bench: Write, tmp_path: Path, path: str, sha256: str, is_one: bool
) -> None:
    folders = []
    for name, seeds, its_path, its_sha256 in (("one", (0, 1), "/a/teacher", "aa"), ("two", (2, 3), path, sha256)):
        settings = {"teacher": its_path}
        plan = {"row": "dpo", "algorithm": "dpo", "settings": settings, "kind": "algorithm"}
        folder = write_bench(f"bench of {name}", seeds=seeds, algorithms=[plan])
        for file in (folder / "records").glob("dpo-*.json"):
            record = json.loads(file.read_text()) | {"settings": settings, "files": {"teacher": its_sha256}}
            file.write_text(json.dumps(record))
        pack(folder, tmp_path / name)
        folders.append(tmp_path / name)
    merge(folders, tmp_path / "both")
    board = board_of(tmp_path / "both")
    assert (board["rows"].keys() == {"start", "dpo"}) == is_one
    assert (
        "dpo was given the teacher /a/teacher (aa): what it took to make is in no budget." in board["conditional_notes"]
    )


def test_the_hash_of_a_file_that_no_setting_names_breaks_no_board(write_bench: Write, tmp_path: Path) -> None:
    folder = write_bench("bench")
    for file in (folder / "records").glob("dpo-*.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"files": {"teacher": "aa"}}))
    pack(folder, tmp_path / "bundle")
    assert not [note for note in board_of(tmp_path / "bundle")["conditional_notes"] if "was given" in note]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)], ids=str)
def test_seeds_with_gaps_between_them_keep_their_data_in_whatever_order_they_are_joined(
    write_bench: Write, tmp_path: Path, order: Sequence[int]
) -> None:
    parts = [tmp_path / f"part{first}" for first in (0, 6, 3)]  # (0, 1), (6, 7) and (3, 4): after two of them, 3 is new
    for part in parts:
        first = int(part.name[-1])
        pack(write_bench(f"bench{first}", seeds=(first, first + 1)), part)
    one, two, three = (parts[place] for place in order)
    merge([one, two], tmp_path / "two")
    merge([tmp_path / "two", three], tmp_path / "all")
    assert faults(tmp_path / "all") == []
    manifest, board = read_manifest(tmp_path / "all"), board_of(tmp_path / "all")
    assert manifest["seeds"] == [0, 1, 3, 4, 6, 7]
    assert manifest["data"] == {"prompts": ["p0", "p1", "p3", "p4", "p6", "p7"]}
    assert board["seeds"] == 6
    assert not any(note.startswith("Rows were added") for note in board["conditional_notes"])
    assert board["rows"]["dpo"]["status"] == "ok"

    other = write_bench("another", seeds=(4, 5))
    plan = json.loads((other / "bench.json").read_text())
    plan["data"]["prompts"]["sha256"][0] = "q4"
    (other / "bench.json").write_text(json.dumps(plan))
    pack(other, tmp_path / "other data")
    with pytest.raises(StorageError, match="prompts of seed 4: 'q4', not 'p4'"):
        merge([tmp_path / "all", tmp_path / "other data"], tmp_path / "both")


def test_prompts_that_are_seen_in_training_are_counted_over_the_seeds_of_all_bundles(
    write_bench: Write, tmp_path: Path
) -> None:
    for first, overlap in ((0, [0, 2]), (2, [5, 1])):
        data = {name: [0, 0] for name in ("rows", "dropped", "alike", "answers", "cut")}
        data |= {"sha256": [f"t{first}", f"t{first + 1}"], "overlap": overlap}
        pack(write_bench(f"bench{first}", seeds=(first, first + 1), data={"test_prompts": data}), tmp_path / str(first))
    merge([tmp_path / "0", tmp_path / "2"], tmp_path / "both")
    assert json.loads((tmp_path / "both" / "bench.json").read_text())["data"]["test_prompts"]["overlap"] == [0, 2, 5, 1]
    assert any(note.startswith("Up to 5 test prompts") for note in board_of(tmp_path / "both")["conditional_notes"])


@pytest.mark.parametrize("second", ["v1", "v2", None])
def test_a_joined_board_is_frozen_if_all_its_bundles_ran_at_one_tag(
    write_bench: Write, tmp_path: Path, second: str | None
) -> None:
    def tag(name: str | None) -> Frozen | None:
        return {"tag": name, "commit": "c" * 40, "date": "2026-01-01T00:00:00+00:00"} if name else None

    pack(write_bench("bench", commit="c" * 40), tmp_path / "first", tag("v1"))
    pack(write_bench("another", seeds=(2, 3), commit="c" * 40), tmp_path / "second", tag(second))
    manifest = merge([tmp_path / "first", tmp_path / "second"], tmp_path / "both")
    assert manifest["frozen"] == (tag("v1") if second == "v1" else None)
    assert faults(tmp_path / "both") == []


def test_a_bundle_that_does_not_verify_is_not_joined(write_bench: Write, bundle: Path, tmp_path: Path) -> None:
    pack(write_bench("another", rows=("ppo",)), tmp_path / "second")
    change_a_byte(tmp_path / "second" / "leaderboard.csv")
    with pytest.raises(StorageError, match=r"leaderboard\.csv: was changed"):
        merge([bundle, tmp_path / "second"], tmp_path / "both")


def test_a_bundle_is_on_a_board_once_however_it_comes_there(write_bench: Write, bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy")
    merge([bundle, pack_of(write_bench, tmp_path, "second", rows=("ppo",))], tmp_path / "both")
    for folders in ([bundle, copy], [tmp_path / "both", copy], [copy, tmp_path / "both"]):
        with pytest.raises(StorageError, match=r"both hold the bundle [0-9a-f]{12}; name it once"):
            merge(folders, tmp_path / "all")


def test_no_bundle_is_written_into_one_that_it_is_made_of(write_bench: Write, bundle: Path, tmp_path: Path) -> None:
    second = pack_of(write_bench, tmp_path, "second", rows=("ppo",))
    with pytest.raises(StorageError, match="lies in the bundle"):
        merge([bundle, second], bundle / "joined")
    assert faults(bundle) == []


@pytest.mark.parametrize("order", list(permutations((0, 1, 2))), ids=str)
def test_two_codes_of_a_row_are_two_rows_in_whatever_order_they_are_joined(
    write_bench: Write, tmp_path: Path, order: Sequence[int]
) -> None:
    # The first has no row `ppo`, and the code of the third installed; only the second and the third have run it.
    what: list[tuple[str, tuple[int, ...], str]] = [("dpo", (0, 1), "c9"), ("ppo", (0, 1), "c1"), ("ppo", (2, 3), "c9")]
    folders = []
    for number, (row, seeds, code) in enumerate(what):
        installed = {"zoo-dpo": {"version": "0.1.0", "sha256": "c1"}, "zoo-ppo": {"version": "0.1.0", "sha256": code}}
        folders.append(pack_of(write_bench, tmp_path, str(number), rows=(row,), seeds=seeds, code=installed))
    merge([folders[place] for place in order], tmp_path / "all")
    rows = board_of(tmp_path / "all")["rows"]
    assert sorted(len(row["seeds"]) for name, row in rows.items() if name.startswith("ppo")) == [2, 2]


def test_data_of_common_seeds_is_compared_between_all_bundles(write_bench: Write, tmp_path: Path) -> None:
    first, second, third = (
        write_bench(name, seeds=seeds) for name, seeds in zip("abc", [(0, 1), (2, 3), (2, 3)], strict=True)
    )
    plan = json.loads((third / "bench.json").read_text())
    plan["data"]["prompts"]["sha256"][0] = "q2"
    (third / "bench.json").write_text(json.dumps(plan))
    for folder in (first, second, third):
        pack(folder, tmp_path / f"bundle {folder.name}")
    with pytest.raises(StorageError, match="prompts of seed 2: 'q2', not 'p2'"):
        merge([tmp_path / f"bundle {name}" for name in "abc"], tmp_path / "all")


def test_seeds_that_never_met_are_one_row_only_with_the_same_core(write_bench: Write, tmp_path: Path) -> None:
    folders = []
    for name, seeds, core in (("one", (0, 1), "c1"), ("same", (2, 3), "c1"), ("another", (4, 5), "c2")):
        installed = {which: {"version": "0.1.0", "sha256": sha256} for which, sha256 in
                     (("zoo-dpo", "c1"), ("zoo-core", core))}  # fmt: skip
        folders.append(pack_of(write_bench, tmp_path, name, seeds=seeds, code=installed))
    merge(folders, tmp_path / "all")
    rows = board_of(tmp_path / "all")["rows"]
    assert sorted((name.partition(".")[0], row["seeds"]) for name, row in rows.items() if name.startswith("dpo")) == [
        ("dpo", [0, 1, 2, 3]),
        ("dpo", [4, 5]),
    ]


def test_the_best_that_gold_gives_is_that_of_the_start_or_the_record_is_named(
    write_bench: Write, tmp_path: Path
) -> None:
    folder = write_bench("bench")
    file = folder / "records" / "dpo-seed1.json"
    record = json.loads(file.read_text())
    record["scores"]["gold_best"] = record["scores"]["gold"] + 0.01  # nearly all headroom gained, and no answer changed
    file.write_text(json.dumps(record))
    pack(folder, tmp_path / "bundle")
    (fault,) = faults(tmp_path / "bundle")
    assert "dpo-seed1.json: " in fault
    assert "scores.gold_best" in fault


def forged(bundle: Path, name: str, **changes: Any) -> list[str]:
    """What is found in a bundle where a file was changed and the manifest written anew."""
    path = bundle / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return faults_of_the_content(bundle)


def faults_of_the_content(bundle: Path) -> list[str]:
    bench, records = load(bundle)
    texts = {path.relative_to(bundle).as_posix(): path.read_text() for path in sorted((bundle / "records").iterdir())}
    texts["bench.json"] = (bundle / "bench.json").read_text()
    write(bench, records, texts, bundle)
    return faults(bundle)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"flops_budget": 5e12}, "records/dpo-seed0.json: flops_budget is 5e+12, and the bench gives 1e+12"),
        (
            {"budget_share": 4.0, "flops_budget": 4e12},
            "records/dpo-seed0.json: budget_share is 4.0, and in the plan of",
        ),
        (
            {"settings": {"beta": 9}},
            "records/dpo-seed0.json: settings are {'beta': 9}, and in the plan of the bench {}",
        ),
        ({"tier": "re-run"}, "records/dpo-seed0.json: tier and start are those of a row that was joined"),
        ({"start": "dpo"}, "records/dpo-seed0.json: tier and start are those of a row that was joined"),
    ],
)
def test_a_record_that_is_not_of_the_plan_is_found_whatever_the_hashes_say(
    bundle: Path, changes: dict[str, Any], said: str
) -> None:
    assert any(fault.startswith(said) for fault in forged(bundle, "records/dpo-seed0.json", **changes))


def changed(bundle: Path, row: str, **changes: Any) -> list[str]:
    """What is found where all records of a row were changed and the manifest written anew."""
    for path in (bundle / "records").glob(f"{row}-seed*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return faults_of_the_content(bundle)


def test_a_row_of_another_algorithm_than_the_plan_s_is_found(bundle: Path) -> None:
    found = changed(bundle, "dpo", algorithm="ppo")
    assert "records/dpo-seed1.json: algorithm is 'ppo', and in the plan of the bench 'dpo'" in found


def test_a_row_that_is_not_in_the_plan_or_has_no_budget_is_found(bundle: Path) -> None:
    assert "records/start-seed0.json: it is of no row in the plan of the bench" in changed(
        bundle, "start", kind="algorithm"
    )
    assert "records/dpo-seed0.json: flops_budget is None, and the bench gives 1e+12" in changed(
        bundle, "dpo", flops_budget=None
    )


def test_prompts_that_were_left_out_are_found(bundle: Path) -> None:
    plan = json.loads((bundle / "bench.json").read_text())
    plan["spec"]["evaluation"] = {"test_prompts": 9}
    plan["data"]["test_prompts"] = plan["data"]["prompts"] | {"rows": [4, 4]}  # fewer than the spec asks for
    (bundle / "bench.json").write_text(json.dumps(plan))
    found = faults_of_the_content(bundle)
    assert "records/dpo-seed0.json: it has 3 answers, and the bench has 4 test prompts" in found


def test_a_seed_that_was_not_planned_is_found(bundle: Path) -> None:
    (bundle / "records" / "dpo-seed0.json").rename(bundle / "records" / "dpo-seed9.json")
    path = bundle / "records" / "dpo-seed9.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": 9}))
    assert "records/dpo-seed9.json: seed is 9, and the bench has 0, 1" in faults_of_the_content(bundle)


def test_two_records_that_changed_places_are_found(bundle: Path) -> None:
    one, other = (bundle / "records" / f"dpo-seed{seed}.json" for seed in (0, 1))
    texts = one.read_text(), other.read_text()
    one.write_text(texts[1])
    other.write_text(texts[0])
    reseal(bundle)
    assert any("holds row 'dpo', seed 1, whose file is dpo-seed1.json" in fault for fault in faults(bundle))


def test_a_budget_of_the_plan_that_no_record_had_is_found(bundle: Path) -> None:
    found = forged(bundle, "bench.json", flops_budget=9e9)
    assert "records/dpo-seed0.json: flops_budget is 1e+12, and the bench gives 9e+09" in found


@pytest.mark.parametrize("row", ["../../evil", "a/b", "/tmp/x", "..", "", "a\\b", "dpo\n"])
def test_a_row_whose_name_is_a_way_elsewhere_is_refused(bundle: Path, tmp_path: Path, row: str) -> None:
    path = bundle / "records" / "dpo-seed0.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"row": row}))
    with pytest.raises(StorageError, match=r"dpo-seed0\.json: key 'row' is"):
        load(bundle)


def test_a_file_that_no_bundle_has_is_found_though_the_manifest_lists_it(bundle: Path) -> None:
    (bundle / "RESULTS.md").write_text("9.99")
    from zoo_leaderboard.bundle import file_of

    listed = {**read_manifest(bundle)["files"], "RESULTS.md": file_of(bundle / "RESULTS.md")}
    about = {key: value for key, value in read_manifest(bundle).items() if key not in ("files", "sha256")}
    (bundle / "bundle.json").write_text(as_json(sealed(about, dict(sorted(listed.items())))))
    assert faults(bundle) == ["RESULTS.md: is no file that a bundle has"]


def test_a_tag_of_another_commit_than_the_bench_s_is_found(write_bench: Write, tmp_path: Path) -> None:
    frozen: Frozen = {"tag": "v1", "commit": "d" * 40, "date": "2026-01-01T00:00:00+00:00"}
    pack(write_bench("bench", commit="c" * 40), tmp_path / "first", frozen)
    assert faults(tmp_path / "first") == [f"bundle.json: frozen.commit is {'d' * 40}, and the bench ran at {'c' * 40}"]


def test_one_run_that_is_in_two_bundles_was_not_run_again(write_bench: Write, bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bench"
    plan = json.loads((folder / "bench.json").read_text())
    (folder / "bench.json").write_text(json.dumps(plan | {"name": "renamed"}))
    pack(folder, tmp_path / "second")
    merge([bundle, tmp_path / "second"], tmp_path / "both")
    assert "Recomputed: dpo, start." in board_of(tmp_path / "both")["conditional_notes"]


def test_the_same_weights_with_other_scores_stand_beside_each_other(
    write_bench: Write, bundle: Path, tmp_path: Path
) -> None:
    other = write_bench("another")
    for path in (other / "records").glob("dpo-*.json"):
        record = json.loads(path.read_text())
        record["scores"]["length"] += 1
        path.write_text(json.dumps(record))
    manifest = pack(other, tmp_path / "second")
    merge([bundle, tmp_path / "second"], tmp_path / "both")
    assert set(board_of(tmp_path / "both")["rows"]) == {"start", "dpo", f"dpo.{manifest['sha256'][:8]}"}


def test_a_flag_that_one_of_two_bundles_has_stays(write_bench: Write, bundle: Path, tmp_path: Path) -> None:
    other = write_bench("another")
    for path in (other / "records").glob("dpo-*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"flags": ["reference moved"]}))
    pack(other, tmp_path / "second")
    merge([bundle, tmp_path / "second"], tmp_path / "both")
    assert any("reference moved" in flag for flag in board_of(tmp_path / "both")["rows"]["dpo"]["flags"])
