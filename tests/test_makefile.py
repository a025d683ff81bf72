"""The set-up that every make target shares, tried with a stand-in for Python that only takes notes."""

import os
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARITY = "tests/parity/*.txt"
PROJECTS = ["plugins/*/pyproject.toml", "harness/pyproject.toml", "leaderboard/pyproject.toml"]
PYTHON = """#!/bin/sh
echo "$PWD: $@" >> "$CALLS"
case "$*" in
    *"-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && cp "$0" "$3/bin/pytest" && cp "$0" "$3/bin/zoo" ;;
    *"$FAILING"*) exit 1 ;;
esac
"""


@pytest.fixture
def tree(tmp_path):
    """Return a copy of what the Makefile reads, beside a stand-in for Python."""
    for pattern in ["Makefile", "constraints.txt", "pyproject.toml", "rlhf-zoo/pyproject.toml", *PROJECTS, PARITY]:
        for path in ROOT.glob(pattern):
            copy = tmp_path / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    return tmp_path


def make(tree, *targets, python="./python", failing="nothing fails"):
    """Run make; return its exit status, what it said, and the calls of Python."""
    calls = tree / "calls"
    calls.write_text("")
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    environment = inherited | {"CALLS": str(calls), "FAILING": failing, "PYTHON": python}
    done = subprocess.run(["make", *targets], cwd=tree, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr, calls.read_text().splitlines()


def editable(call: str) -> set[str]:
    """The folders that a call of pip installs editable."""
    return {after for word, after in pairwise(call.split()) if word == "--editable"}


def folders(tree: Path) -> set[str]:
    """The folders of all distributions but the one at the root."""
    return {str(path.parent.relative_to(tree)) for glob in PROJECTS for path in tree.glob(glob)}


def test_the_first_call_installs_every_distribution_under_constraints_and_torch_first(tree):
    status, said, calls = make(tree, "venv")
    assert status == 0, said
    installs = [call for call in calls if " install " in call]
    assert all("--constraint constraints.txt" in call for call in installs)
    assert "torch" in installs[0].split()
    assert editable(installs[1]) == folders(tree) | {".[dev]"}


def test_the_second_call_does_nothing(tree):
    make(tree, "venv")
    assert make(tree, "venv") == (0, "", [])


@pytest.mark.parametrize("changed", ["constraints.txt", "pyproject.toml", "plugins/mine/pyproject.toml"])
def test_a_changed_or_added_input_installs_again(tree, changed):
    make(tree, "venv")
    path = tree / changed
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        file.write("# changed\n")
    _, _, calls = make(tree, "venv")
    assert any(" install " in call for call in calls)
    assert any("--editable plugins/mine" in call for call in calls) == (changed == "plugins/mine/pyproject.toml")


def test_an_installation_that_failed_is_not_taken_for_a_finished_one(tree):
    assert make(tree, "venv", failing="--editable")[0] != 0
    _, _, calls = make(tree, "venv")
    assert any("--editable" in call for call in calls)


def test_an_old_or_missing_python_is_refused_in_plain_words(tree):
    for python, failing in [("./python", "sys.version_info"), ("./no-such-python", "")]:
        status, said, _ = make(tree, "venv", python=python, failing=failing)
        assert status != 0
        assert f"'{python}' is missing or older than Python 3.11" in said
        assert not (tree / ".venv").exists()


def test_dist_builds_a_wheel_of_every_distribution(tree):
    status, said, calls = make(tree, "dist")
    assert status == 0, said
    built = [call.partition(":")[0] for call in calls if "hatchling build --target wheel" in call]
    folders = [
        path.parent
        for glob in ("pyproject.toml", "*/pyproject.toml", "plugins/*/pyproject.toml")
        for path in tree.glob(glob)
    ]
    assert sorted(built) == sorted(map(str, folders))
    assert make(tree, "dist", failing="hatchling")[0] != 0


def test_arguments_reach_pytest(tree):
    _, _, calls = make(tree, "test", "ARGS=plugins/ppo -k clip")
    assert calls[-1].endswith(" plugins/ppo -k clip")


def test_parity_is_an_environment_for_each_file_of_requirements_under_the_same_constraints(tree):
    status, said, calls = make(tree, "parity-environments")
    assert status == 0, said
    installs = [call for call in calls if " install " in call]
    names = {path.stem for path in tree.glob(PARITY)}
    assert {call.split()[-1] for call in calls if "-m venv" in call} == {f".parity/{name}" for name in names}
    assert [call.split()[-1] for call in installs[::2]] == ["torch"] * len(names)
    assert {call.split()[-1] for call in installs[1::2]} == {f"tests/parity/{name}.txt" for name in names}
    assert all("--constraint constraints.txt" in call for call in installs)
    assert make(tree, "parity-environments")[2] == []


def test_oldest_is_an_environment_with_every_distribution_at_its_bounds_and_a_bench(tree):
    (tree / "tests" / "oldest.py").touch()
    status, said, calls = make(tree, "oldest")
    assert status == 0, said
    installs = [call for call in calls if ".oldest/constraints.txt" in call]
    assert all("--constraint .oldest/constraints.txt" in call for call in installs)
    assert "torch" in installs[0].split()
    assert editable(installs[1]) == folders(tree) | {"."}
    assert " bench " in calls[-1]
    assert len(make(tree, "oldest")[2]) == 1  # the bench alone
    with (tree / "plugins" / "dpo" / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    assert any(".oldest/constraints.txt" in call for call in make(tree, "oldest")[2])
