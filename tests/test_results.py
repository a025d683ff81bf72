"""What the plugins' READMEs say of results is what the committed bench gives, and anybody can run that bench again."""

import json
import re
import runpy
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml
from zoo_harness.spec.schema import Entry
from zoo_leaderboard.load import load
from zoo_leaderboard.ranks import in_words
from zoo_leaderboard.verify import verify

ROOT = Path(__file__).parents[1]
RESULTS = runpy.run_path(str(ROOT / "tests" / "results.py"))
QUICK, SHOWN = RESULTS["QUICK"], RESULTS["SHOWN"]
READMES = [(shown, path) for shown in SHOWN for path in shown.readmes()]
BUNDLES = sorted(RESULTS["PUBLISHED"].glob("*/"))
MOST_BYTES = 8 * 1024 * 1024
each_bundle = pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
each_shown = pytest.mark.parametrize("shown", SHOWN, ids=lambda shown: shown.name)
each_readme = pytest.mark.parametrize(
    ("shown", "readme"), READMES, ids=[f"{shown.name}-{path.parent.name}" for shown, path in READMES]
)


@cache
def board_of(shown):
    return shown.board()


def git(*arguments):
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)


@each_readme
def test_the_result_of_a_readme_is_made_from_the_committed_bench(shown, readme):
    text = readme.read_text()
    assert text.count(shown.begin) == 1
    assert text.count(RESULTS["END"]) == sum(one.begin in text for one in SHOWN)
    assert shown.between(text, RESULTS["result"](shown, board_of(shown), readme.parent.name)) == text


@each_bundle
def test_a_published_board_is_what_its_records_give(bundle):
    """Red after a change of a page or a table, too: `make results` writes them again."""
    assert [str(fault) for fault in verify(bundle).faults] == []


def test_the_board_of_the_readme_is_made_from_the_committed_records():
    text = (ROOT / "README.md").read_text()
    assert RESULTS["with_sample"](text, RESULTS["sample"]()) == text, "make results"


@each_shown
def test_every_row_of_the_bench_stands_in_one_readme(shown):
    texts = [between(shown, path) for path in shown.readmes()]
    said = [row for text in texts for row in re.findall(r"^\| `([\w-]+)` \|", text, re.MULTILINE)]
    rows = [row["row"] for row in board_of(shown)["rows"] if row["kind"] == "algorithm"]
    assert rows
    assert {row: said.count(row) for row in rows} == dict.fromkeys(rows, 1)


@each_shown
def test_the_committed_bench_finished(shown):
    board = board_of(shown)
    assert {row["seeds_ok"] for row in board["rows"]} == {board["seeds"]}


@each_shown
def test_the_command_runs_the_committed_spec(shown):
    bench, _ = load(shown.bundle)
    spec = yaml.safe_load((ROOT / shown.spec).read_text())
    assert RESULTS["command"](board_of(shown)) == f'make bench ARGS="{shown.spec}"'
    rows = [Entry.model_validate(entry) for entry in spec.pop("algorithms")]
    assert [Entry.model_validate(entry) for entry in bench["spec"]["algorithms"]] == rows
    assert {key: bench["spec"][key] for key in spec} == spec


@each_readme
def test_the_command_of_a_readme_names_rows_of_the_spec(shown, readme):
    command = rf'^    make bench ARGS="{shown.spec} --algorithms ([\w,-]+)"$'
    (rows,) = re.findall(command, between(shown, readme), re.MULTILINE)
    listed = yaml.safe_load((ROOT / shown.spec).read_text())["algorithms"]
    assert set(rows.split(",")) <= {row if isinstance(row, str) else row["name"] for row in listed}


@each_shown
def test_the_commit_is_in_the_history_and_holds_the_spec(shown):
    if git("rev-parse", "--is-shallow-repository").stdout.strip() != "false":
        pytest.skip("no checkout with its history: nothing says what the commit holds")
    commit = board_of(shown)["commit"]
    assert git("merge-base", "--is-ancestor", commit, "HEAD").returncode == 0
    assert git("show", f"{commit}:{shown.spec}").stdout == (ROOT / shown.spec).read_text()


@each_shown
def test_the_committed_bench_is_small(shown):
    assert sum(path.stat().st_size for path in shown.bundle.rglob("*") if path.is_file()) < MOST_BYTES


@each_bundle
def test_a_published_bench_says_nothing_of_the_machine_s_folders_and_has_no_large_files(bundle):
    files = [path for path in bundle.rglob("*") if path.is_file()]
    assert max(path.stat().st_size for path in files) < MOST_BYTES
    for path in [one for one in files if one.suffix == ".json" and one.name != "leaderboard.json"]:
        assert not re.search(r"https?:|localhost|[\"' =](/|~/|[A-Z]:\\)\w", path.read_text()), path


def test_a_bench_of_another_spec_is_not_published(tmp_path, monkeypatch):
    monkeypatch.setitem(RESULTS["keep"].__globals__, "PUBLISHED", tmp_path / "kept")
    ended = tmp_path / "ended"
    shutil.copytree(ROOT / "leaderboard" / "published" / "quick", ended)
    RESULTS["keep"](ended, QUICK)
    assert verify(tmp_path / "kept" / "quick").faults == []
    bench = json.loads((ended / "bench.json").read_text())
    (ended / "bench.json").write_text(json.dumps(bench | {"commit": "no-such-commit"}))
    with pytest.raises(SystemExit, match="not that of the working tree"):
        RESULTS["keep"](ended, QUICK)


def test_the_commands_of_the_readme_take_a_stranger_from_the_bundle_to_a_recomputed_number():
    text = (ROOT / "README.md").read_text().partition("## Check a published board")[2].partition("\n## ")[0]
    setup, *commands = re.findall(r"^    (.*)$", text, re.MULTILINE)
    assert setup == "make venv"
    assert len(commands) == 2
    said = [run_here(command) for command in commands]
    assert "recomputed:" in said[0]
    first, second = commands[1].split("--pair ")[1].split(",")
    (pair,) = [one for one in board_of(QUICK)["pairs"] if {one["a"], one["b"]} == {first, second}]
    assert in_words(pair) in said[1]


def run_here(command):
    """What a command of the README prints; its `.venv/bin` is wherever these tests' Python is."""
    program, *rest = command.split()
    assert program == ".venv/bin/zoo"
    done = subprocess.run(
        [Path(sys.executable).parent / "zoo", *rest], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def between(shown, readme):
    return readme.read_text().partition(shown.begin)[2].partition(RESULTS["END"])[0]
