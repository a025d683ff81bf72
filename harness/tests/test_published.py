"""A bench becomes a bundle, and strangers check it: the whole way, by the commands that they type."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from zoo_leaderboard.bundle import file_of, read_manifest, sealed
from zoo_leaderboard.write import as_json


@pytest.fixture(scope="module")
def bench(world: Path, written: dict[str, Any], zoo: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bench of one algorithm and two seeds."""
    folder = tmp_path_factory.mktemp("bench")
    values = {**written, "algorithms": [{"name": "dpo", "batch_size": 8}], "references": False}
    for key in ("base", "demonstrations", "preferences", "prompts"):
        values[key] = str(world / values[key])
    shutil.copy(world / "judge.py", folder)
    values["tasks"] = [str(world / "spell.yaml")]
    (folder / "spec.yaml").write_text(yaml.safe_dump(values))
    done = zoo("bench", folder / "spec.yaml", "--output", folder / "run", cwd=folder)
    assert done.returncode == 0, done.stderr + done.stdout
    return folder / "run"


@pytest.fixture(scope="module")
def bundle(bench: Path, zoo: Any) -> Path:
    done = zoo("leaderboard", "publish", bench, "bundle", cwd=bench.parent)
    assert done.returncode == 0, done.stderr
    assert "check it: zoo leaderboard verify bundle" in done.stdout
    return bench.parent / "bundle"


def test_a_stranger_computes_every_number_of_a_bundle_again(bundle: Path, zoo: Any, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "theirs")
    done = zoo("leaderboard", "verify", "theirs", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    sha256 = json.loads((bundle / "bundle.json").read_text())["sha256"]
    records = len(list((bundle / "records").iterdir()))
    assert f"all numbers follow from {records} records. bundle {sha256}" in done.stdout
    assert "dpo" in done.stdout
    again = zoo("leaderboard", "theirs", cwd=tmp_path)  # the board alone; a bundle is left as it is
    assert again.returncode == 0
    assert zoo("leaderboard", "verify", "theirs", cwd=tmp_path).returncode == 0


def test_nobody_says_of_a_page_of_another_version_that_it_follows(bundle: Path, zoo: Any, tmp_path: Path) -> None:
    theirs = Path(shutil.copytree(bundle, tmp_path / "theirs"))
    manifest = {**read_manifest(theirs), "made_with": "99.0"}
    (theirs / "index.html").write_text("9.99")
    files = {**manifest.pop("files"), "index.html": file_of(theirs / "index.html")}
    manifest.pop("sha256")
    (theirs / "bundle.json").write_text(as_json(sealed(manifest, files)))
    done = zoo("leaderboard", "verify", "theirs", cwd=tmp_path)
    assert "page and tables were not compared: they were made with zoo-leaderboard 99.0" in done.stdout
    assert "all numbers but those of page and tables follow from" in done.stdout


def test_a_bundle_names_the_code_the_data_and_the_judge_that_it_was_made_with(bundle: Path) -> None:
    manifest = json.loads((bundle / "bundle.json").read_text())
    assert {"zoo-core", "zoo-harness", "zoo-leaderboard", "zoo-dpo"} <= manifest["code"].keys()
    assert "judge:share_of_a" in manifest["hashes"]
    assert manifest["data"].keys() >= {"demonstrations", "preferences", "test_prompts"}
    assert manifest["base"]["sha256"]
    assert manifest["environments"][0]["meter_version"] == 3
    assert manifest["totals"]["flops"] > 0


def test_a_tampered_bundle_ends_with_one_line_a_fault_and_code_1(bundle: Path, zoo: Any, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "theirs")
    path = tmp_path / "theirs" / "records" / "dpo-seed1.json"
    path.write_text(path.read_text().replace('"gold": 0.', '"gold": 0.1', 1))
    done = zoo("leaderboard", "verify", "theirs", cwd=tmp_path)
    assert done.returncode == 1
    assert all(line.startswith("error: ") for line in done.stderr.strip().splitlines())
    assert "error: records/dpo-seed1.json: was changed" in done.stderr
    assert "recomputed" not in done.stdout


def test_checkpoints_are_scored_again_and_give_the_published_scores(bundle: Path, bench: Path, zoo: Any) -> None:
    done = zoo("leaderboard", "verify", bundle, "--rescore", bench, cwd=bench.parent)
    assert done.returncode == 0, done.stderr
    assert "scored again: 8 of 8 rows and seeds agree" in done.stderr  # base, start, best-of-4 and dpo, two seeds each
    assert "not scored again" not in done.stderr


def test_a_folder_without_checkpoints_is_a_mistake(bundle: Path, bench: Path, zoo: Any) -> None:
    done = zoo("leaderboard", "verify", bundle, "--rescore", "nowhere", cwd=bench.parent)
    assert done.returncode == 2
    assert "holds no weights of this bundle's rows" in done.stderr


def test_checkpoints_of_something_else_are_told_from_those_that_were_published(
    bundle: Path, bench: Path, zoo: Any, tmp_path: Path
) -> None:
    cells = tmp_path / "other" / "cells"
    shutil.copytree(bench / "cells" / "dpo-seed0", cells / "dpo-seed1")
    done = zoo("leaderboard", "verify", bundle, "--rescore", tmp_path / "other", cwd=bench.parent)
    assert done.returncode == 1
    assert "dpo seed 1: these are other weights than those that were published" in done.stderr
    assert "not scored again, because their weights are not in" in done.stderr
    assert "/other: dpo seed 0" in done.stderr


def test_the_tag_that_froze_the_code_must_be_what_the_bench_ran_at(bench: Path, zoo: Any, tmp_path: Path) -> None:
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@y"]
    subprocess.run([*git, "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "all"], cwd=tmp_path, check=True)
    subprocess.run([*git, "tag", "v1"], cwd=tmp_path, check=True)
    at = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tmp_path, check=True, capture_output=True, text=True)
    for tag, message in (("v2", "has no such tag"), ("v1", f"is commit {at.stdout[:12]}, and the bench ran at")):
        done = zoo("leaderboard", "publish", bench, "bundle", "--tag", tag, cwd=tmp_path)
        assert done.returncode == 2
        assert message in done.stderr
    shutil.copytree(bench, tmp_path / "bench")
    plan = json.loads((tmp_path / "bench" / "bench.json").read_text())
    (tmp_path / "bench" / "bench.json").write_text(json.dumps(plan | {"commit": at.stdout.strip()}))
    assert zoo("leaderboard", "publish", "bench", "bundle", "--tag", "v1", cwd=tmp_path).returncode == 0
    frozen = json.loads((tmp_path / "bundle" / "bundle.json").read_text())["frozen"]
    assert (frozen["tag"], frozen["commit"]) == ("v1", at.stdout.strip())
    assert "frozen by the tag `v1`" in (tmp_path / "bundle" / "README.md").read_text()
    assert zoo("leaderboard", "verify", "bundle", cwd=tmp_path).returncode == 0


def test_two_people_join_their_rows(bundle: Path, bench: Path, zoo: Any, tmp_path: Path) -> None:
    spec = yaml.safe_load((bench.parent / "spec.yaml").read_text())
    shutil.copy(bench.parent / "judge.py", tmp_path)
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump({**spec, "algorithms": ["sft"]}))
    assert zoo("bench", "spec.yaml", "--output", "run", cwd=tmp_path).returncode == 0
    assert zoo("leaderboard", "publish", "run", "mine", cwd=tmp_path).returncode == 0
    done = zoo("leaderboard", "merge", bundle, "mine", "--output", "both", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert zoo("leaderboard", "verify", "both", cwd=tmp_path).returncode == 0
    rows = {row["row"] for row in json.loads((tmp_path / "both" / "leaderboard.json").read_text())["rows"]}
    assert rows == {"base", "start", "best-of-4", "dpo", "sft"}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump({**spec, "algorithms": ["sft"], "budget": 9e8}))
    assert zoo("bench", "spec.yaml", "--output", "less", cwd=tmp_path).returncode == 0
    assert zoo("leaderboard", "publish", "less", "smaller", cwd=tmp_path).returncode == 0
    done = zoo("leaderboard", "merge", bundle, "smaller", "--output", "no", cwd=tmp_path)
    assert done.returncode == 2
    assert "budget: 900000000.0, not 1000000000.0" in done.stderr
