"""Whoever may read one file of a result may read all: every file and folder has the mode that the umask gives."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(("umask", "command"), [(0o022, ["train", "dpo"]), (0o027, ["bench"])], ids=["train", "bench"])
def test_all_that_a_command_leaves_has_the_mode_that_the_umask_gives(
    world: Path, environment: dict[str, str], tmp_path: Path, umask: int, command: list[str]
) -> None:
    flags = ["--output", str(tmp_path / "out"), "--set", "checkpoint_seconds=0"]
    flags += ["--algorithms", "dpo", "--seeds", "1"] if command == ["bench"] else []
    spec = world / "spec.yaml"
    done = subprocess.run(
        [sys.executable, "-m", "zoo_harness.start", *command, str(spec), *flags],
        cwd=world,
        env={**environment, "ZOO_CACHE": str(tmp_path / "cache")},
        umask=umask,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    left = [path for folder in ("out", "cache") for path in (tmp_path / folder).rglob("*")]
    assert {path.name for path in left} >= {"model.safetensors", "result.json", "log.txt", "lock", "stages"}
    if command == ["bench"]:
        assert {path.name for path in left} >= {"leaderboard.html", "leaderboard.csv", "records"}
    wrong = {
        str(path.relative_to(tmp_path)): oct(mode)
        for path in left
        if (mode := stat.S_IMODE(path.stat().st_mode)) != (0o777 if path.is_dir() else 0o666) & ~umask
    }
    assert wrong == {}
