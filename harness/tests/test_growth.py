"""A board grows: a row that is added is trained, and no other; a row that is dropped comes back without training."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

EIGHT = ("--set", "dpo.batch_size=8")


def attempts_of(folder: Path) -> dict[str, tuple[str, int]]:
    """Return identity and count of attempts of every cell and score in a bench's folder."""
    begun = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("cells/*/begun.json")}
    begun |= {f"score {path.parent.name}": json.loads(path.read_text()) for path in folder.glob("scores/*/begun.json")}
    return {name: (one["identity"], one["attempts"]) for name, one in begun.items()}


def rows_of(folder: Path) -> set[str]:
    return {row["row"] for row in json.loads((folder / "leaderboard.json").read_text())["rows"]}


@pytest.fixture(scope="module")
def grown(world, zoo, tmp_path_factory) -> dict[str, Any]:
    """One folder, four benches one after the other: a row, one more, the first changed, and as it was."""
    folder, seen = tmp_path_factory.mktemp("grown") / "bench", {}

    def bench(name: str, *words: str) -> None:
        done = zoo("bench", world / "spec.yaml", "--seeds", "1", "--output", folder, *words, cwd=folder.parent)
        assert done.returncode == 0, done.stdout + done.stderr
        seen[name] = attempts_of(folder), rows_of(folder), json.loads((folder / "bench.json").read_text())

    bench("first", "--algorithms", "sft")
    bench("added", "--algorithms", "sft,dpo", *EIGHT)
    bench("changed", "--algorithms", "sft,dpo", *EIGHT, "--set", "dpo.beta=0.2")
    bench("dropped", "--algorithms", "dpo", *EIGHT)
    seen["folder"] = folder
    return seen


def test_a_row_that_is_added_is_trained_and_no_other(grown):
    before, rows, _ = grown["first"]
    after, more, bench = grown["added"]
    assert more - rows == {"dpo"}
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"dpo-seed0", "score dpo-seed0"}
    assert bench["grew"]


def test_a_row_with_another_setting_is_trained_anew_and_what_it_was_is_set_aside(grown):
    before, after = grown["added"][0], grown["changed"][0]
    assert {name for name in after if after[name] != before[name]} == {"dpo-seed0", "score dpo-seed0"}
    assert (grown["folder"] / "aside").is_dir()


def test_a_row_that_was_set_aside_comes_back_without_training_and_a_dropped_one_leaves_the_board(grown):
    before, after = grown["added"][0], grown["dropped"][0]
    assert after["dpo-seed0"] == before["dpo-seed0"]
    assert after["score dpo-seed0"] == before["score dpo-seed0"]
    assert "sft" not in grown["dropped"][1]
    assert (grown["folder"] / "cells" / "sft-seed0" / "result.json").exists(), "its work is kept"


def test_a_cell_that_was_done_in_another_folder_is_taken_over_with_its_score(grown, world, zoo, tmp_path) -> None:
    words = ("--seeds", "1", "--output", "other", "--algorithms", "sft,dpo", *EIGHT, "--set", "evaluation.best_of=[4]")
    done = zoo("bench", world / "spec.yaml", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    other, first = tmp_path / "other", grown["folder"]
    assert attempts_of(other) == {}, "no process of this bench trained or scored"
    assert rows_of(other) == grown["added"][1]
    weights = [folder / "cells" / "dpo-seed0" / "final" / "model.safetensors" for folder in (first, other)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    records = [json.loads((folder / "records" / "dpo-seed0.json").read_text()) for folder in (first, other)]
    assert records[0]["scores"] == records[1]["scores"]
    assert records[0]["wall_seconds"] == records[1]["wall_seconds"]


def test_what_another_folder_lost_is_done_again(grown, world, zoo, tmp_path, cache) -> None:
    entry = cache / "done" / f"{grown['dropped'][0]['dpo-seed0'][0]}.json"
    before = entry.read_text()
    entry.write_text(json.dumps({"folder": str(tmp_path / "gone")}))
    words = ("--seeds", "1", "--output", "again", "--algorithms", "dpo", *EIGHT)
    done = zoo("bench", world / "spec.yaml", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "dpo-seed0" in attempts_of(tmp_path / "again")
    entry.write_text(before)


def test_without_a_folder_the_next_free_number_is_taken_and_the_reason_is_said(
    world: Path, zoo: Callable[..., Any], tmp_path: Path
) -> None:
    for number in (2, 3):
        taken = tmp_path / "zoo-runs" / ("spec" if number == 2 else "spec-2")
        taken.mkdir(parents=True)
        bench = {
            "schema_version": 1,
            "bench_id": "x",
            "world_id": "x",
            "spec": {"base": "another"},
            "flops_budget": 1.0,
        }
        (taken / "bench.json").write_text(json.dumps(bench))
    done = zoo("plan", world / "spec.yaml", "--algorithms", "sft", "--seeds", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    done = zoo("bench", world / "spec.yaml", "--algorithms", "sft", "--seeds", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    said = " ".join(done.stdout.split())
    assert "zoo-runs/spec holds another bench (different: base" in said
    assert "this one is in zoo-runs/spec-3" in said
    assert (tmp_path / "zoo-runs" / "spec-3" / "leaderboard.json").exists()
