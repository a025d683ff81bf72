"""What the plugins' READMEs say of results is what the committed bench gives, and anybody can run that bench again."""

import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from zoo_leaderboard.load import load
from zoo_leaderboard.ranks import in_words
from zoo_leaderboard.verify import verify

ROOT = Path(__file__).parents[1]
RESULTS = runpy.run_path(str(ROOT / "tests" / "results.py"))
KEPT, SPEC, BEGIN, END = (RESULTS[name] for name in ("KEPT", "SPEC", "BEGIN", "END"))
READMES = RESULTS["readmes"]()
BUNDLES = sorted(RESULTS["PUBLISHED"].iterdir())
MOST_BYTES = 8 * 1024 * 1024
each_bundle = pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)


@pytest.fixture(scope="module")
def board():
    return RESULTS["kept"]()


def git(*arguments):
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.parent.name)
def test_the_result_of_a_readme_is_made_from_the_committed_bench(readme, board):
    text = readme.read_text()
    assert text.count(BEGIN) == text.count(END) == 1
    assert RESULTS["between"](text, RESULTS["result"](board, readme.parent.name)) == text


@each_bundle
def test_a_published_board_is_what_its_records_give(bundle):
    """Red after a change of a page or a table, too: `make results` writes them again."""
    assert [str(fault) for fault in verify(bundle).faults] == []


def test_the_board_of_the_readme_is_made_from_the_committed_records():
    text = (ROOT / "README.md").read_text()
    assert RESULTS["with_sample"](text, RESULTS["sample"]()) == text, "make results"


def test_every_row_of_the_bench_stands_in_one_readme(board):
    shown = [row for path in READMES for row in re.findall(r"^\| `([\w-]+)` \|", between(path), re.MULTILINE)]
    rows = [row["row"] for row in board["rows"] if row["kind"] == "algorithm"]
    assert rows
    assert {row: shown.count(row) for row in rows} == dict.fromkeys(rows, 1)


def test_the_committed_bench_finished(board):
    assert {row["seeds_ok"] for row in board["rows"]} == {board["seeds"]}


def test_the_command_runs_the_committed_spec(board):
    bench, _ = load(KEPT)
    spec = yaml.safe_load((ROOT / SPEC).read_text())
    assert bench["command"] == f"zoo bench {SPEC}"
    assert RESULTS["command"](board) == f'make bench ARGS="{SPEC}"'
    assert [entry["name"] for entry in bench["spec"]["algorithms"]] == spec.pop("algorithms")
    assert {key: bench["spec"][key] for key in spec} == spec


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.parent.name)
def test_the_command_of_a_readme_names_rows_of_the_spec(readme, board):
    (rows,) = re.findall(rf'^    make bench ARGS="{SPEC} --algorithms ([\w,-]+)"$', between(readme), re.MULTILINE)
    assert set(rows.split(",")) <= set(yaml.safe_load((ROOT / SPEC).read_text())["algorithms"])


def test_the_commit_is_in_the_history_and_holds_the_spec(board):
    if git("rev-parse", "--is-shallow-repository").stdout.strip() != "false":
        pytest.skip("no checkout with its history: nothing says what the commit holds")
    assert git("merge-base", "--is-ancestor", board["commit"], "HEAD").returncode == 0
    assert git("show", f"{board['commit']}:{SPEC}").stdout == (ROOT / SPEC).read_text()


def test_the_committed_bench_is_small():
    assert sum(path.stat().st_size for path in KEPT.rglob("*") if path.is_file()) < MOST_BYTES


@each_bundle
def test_a_published_bench_says_nothing_of_the_machine_s_folders_and_has_no_large_files(bundle):
    files = [path for path in bundle.rglob("*") if path.is_file()]
    assert max(path.stat().st_size for path in files) < MOST_BYTES
    for path in [one for one in files if one.suffix == ".json" and one.name != "leaderboard.json"]:
        assert not re.search(r"https?:|localhost|[\"' =](/|~/|[A-Z]:\\)\w", path.read_text()), path


def test_a_bench_of_another_spec_is_not_published(tmp_path, monkeypatch):
    monkeypatch.setitem(RESULTS["keep"].__globals__, "KEPT", tmp_path / "kept")
    ended = tmp_path / "ended"
    shutil.copytree(KEPT, ended)
    RESULTS["keep"](ended)
    assert verify(tmp_path / "kept").faults == []
    bench = json.loads((ended / "bench.json").read_text())
    (ended / "bench.json").write_text(json.dumps(bench | {"commit": "no-such-commit"}))
    with pytest.raises(SystemExit, match="not that of the working tree"):
        RESULTS["keep"](ended)


def test_the_commands_of_the_readme_take_a_stranger_from_the_bundle_to_a_recomputed_number(board):
    text = (ROOT / "README.md").read_text().partition("## Check a published board")[2].partition("\n## ")[0]
    setup, *commands = re.findall(r"^    (.*)$", text, re.MULTILINE)
    assert setup == "make venv"
    assert len(commands) == 2
    said = [run_here(command) for command in commands]
    assert "recomputed:" in said[0]
    first, second = commands[1].split("--pair ")[1].split(",")
    (pair,) = [one for one in board["pairs"] if {one["a"], one["b"]} == {first, second}]
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


def between(readme):
    return readme.read_text().partition(BEGIN)[2].partition(END)[0]
