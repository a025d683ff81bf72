"""What `zoo bench --emit slurm` writes is run by a scheduler of ten lines of bash."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from zoo_harness.bench import _without
from zoo_harness.executors import slurm
from zoo_harness.job import Job

SBATCH = """\
#!/bin/bash
# Runs what it is given at once, task after task; refuses what depends on jobs that have not ended. Loses task $LOSE.
set -eu
array= dependency= parsable=
while [[ $1 == --* ]]; do
    case $1 in
        --array=*) array=${1#--array=1-} ;;
        --dependency=afterany:*) dependency=${1#*:} ;;
        --parsable) parsable=yes ;;
        *) echo "sbatch: what is $1?" >&2; exit 1 ;;
    esac
    shift
done
for id in ${dependency//:/ }; do grep -qx "$id" ended; done
id=$(( 1000 + $(cat ended 2>/dev/null | wc -l) ))
if [ -z "$array" ]; then
    bash "$@" > board.log 2>&1
else
    for task in $(seq "${array%\\%*}"); do
        job=$(sed -n "${task}p" "$2" | xargs printf '%s\\n' | head -n 1)
        if [[ $job != */$LOSE/job.json ]]; then
            SLURM_ARRAY_TASK_ID=$task bash "$@" >> tasks.log 2>&1 || true
        fi
    done
fi
echo "$id" >> ended
if [ -n "$parsable" ]; then echo "$id"; else echo "Submitted batch job $id"; fi
"""
NOT_REPEATED = ("wall_seconds", "peak_memory_bytes", "stages", "attempt")


@pytest.fixture(scope="module")
def spec(world) -> Path:
    """A spec of as few jobs as can be."""
    written = yaml.safe_load((world / "spec.yaml").read_text())
    written |= {
        "algorithms": ["sft"],
        "reward": None,
        "budget": 1e9,
        "seeds": 1,
        "tasks": [],
        "evaluation": {**written["evaluation"], "best_of": []},
    }
    path = world / "one.yaml"
    path.write_text(yaml.safe_dump(written))
    return path


def records_of(output: Path) -> dict[str, dict[str, Any]]:
    found = {path.stem: json.loads(path.read_text()) for path in (output / "records").glob("*.json")}
    return {name: {key: record[key] for key in record if key not in NOT_REPEATED} for name, record in found.items()}


@pytest.mark.slow
def test_the_scripts_do_what_zoo_bench_does_even_when_a_node_is_lost(spec, zoo, environment, tmp_path):
    plain, emitted = tmp_path / "plain", tmp_path / "with a space"
    shutil.copy(spec.parent / "demos.jsonl", tmp_path)
    words = ("bench", spec, "--demonstrations", "demos.jsonl")  # relative to where the command is given
    assert zoo(*words, "--output", plain, cwd=tmp_path).returncode == 0
    environment = {**environment, "ZOO_CACHE": str(tmp_path / "cache"), "LOSE": "cells/sft-seed0"}
    options = ("--emit", "slurm", "--output", emitted, "--workers", "2", "--option", "time=1:00:00")
    done = zoo(*words, *options, cwd=tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "bash with a space/slurm/submit.sh"
    assert not [*emitted.glob("cells/*/result.json"), *emitted.glob("scores/*/result.json")]

    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").write_text(SBATCH)
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    environment["PATH"] = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    script = emitted / "slurm" / "submit.sh"
    submitted = subprocess.run(["bash", script], env=environment, cwd="/", capture_output=True, text=True, check=False)
    assert submitted.returncode == 0, submitted.stderr

    tasks, board = ((emitted / "slurm" / f"{name}.log").read_text() for name in ("tasks", "board"))
    lost = emitted / "cells" / "sft-seed0"
    score = emitted / "scores" / "sft-seed0"
    assert f"{score}/job.json: not started, because {lost}/job.json is not done" in " ".join(tasks.split())
    assert tasks.count("error:") == 1
    begun = {path.parent.name for kind in ("cells", "scores") for path in emitted.glob(f"{kind}/*/begun.json")}
    assert begun == {"sft-seed0", "sft-chosen-seed0", "start-seed0", "base-seed0"}
    assert "sft seed 0: trained" in board
    assert "Rank" in board
    assert records_of(emitted) == records_of(plain)


def test_every_job_is_in_one_array_after_those_it_needs_and_stages_wait_for_no_cell(tmp_path):
    needs = {"stage": (), "reward": ("stage",), "long": (), "cell": ("stage", "reward"), "score": ("cell",)}
    jobs = [
        Job(kind="train", title=name, directory=tmp_path / name, identity=name, needs=needed, row=row)
        for (name, needed), row in zip(needs.items(), ["", "", "long", "cell", "cell"], strict=True)
    ]
    levels = [[job.title for job in level] for level in slurm.levels(jobs)]
    assert levels == [["stage"], ["reward"], ["long", "cell"], ["score"]]


def test_arrays_are_no_longer_than_slurm_allows_and_the_next_waits_for_all_of_them(tmp_path, monkeypatch):
    monkeypatch.setattr(slurm, "MOST_TASKS", 2)
    jobs = [Job(kind="train", title="cell", directory=tmp_path / f"{n}", identity=f"{n}", row="cell") for n in range(3)]
    jobs.append(Job(kind="score", title="score", directory=tmp_path / "s", identity="s", row="cell", needs=("0", "2")))
    script = slurm.emit("mine", jobs, tmp_path / "slurm", tmp_path / "cache", ["bench"], {"partition": "gpu"})
    arrays = re.findall(r"--array=(\S+) (?:--dependency=(\S+) )?task.sh (\S+)\)", script.read_text())
    assert arrays == [
        ("1-2", "", "jobs-1.txt"),
        ("1-1", "", "jobs-2.txt"),
        ("1-1", "afterany:$array_1:$array_2", "jobs-3.txt"),
    ]
    lists = {name: (script.parent / name).read_text() for *_, name in arrays}
    assert lists["jobs-1.txt"] == "".join(f"{tmp_path}/{n}/job.json\n" for n in range(2))
    assert lists["jobs-3.txt"] == f"{tmp_path}/s/job.json {tmp_path}/0/job.json {tmp_path}/2/job.json\n"
    assert "\nsbatch --dependency=afterany:$array_3 board.sh\n" in script.read_text()
    for name in ("task.sh", "board.sh"):
        assert "#SBATCH --partition=gpu\n" in (script.parent / name).read_text()


def test_wrong_words_are_refused_before_anything_is_looked_up(tmp_path, zoo, spec):
    done = zoo("bench", spec, "--emit", "pbs", cwd=tmp_path)
    assert done.returncode == 2
    assert "write --emit slurm" in done.stderr
    done = zoo("bench", spec, "--emit", "slurm", "--option", "partition", cwd=tmp_path)
    assert done.returncode == 2
    assert "--option partition: write it as KEY=VALUE" in done.stderr


@pytest.mark.parametrize(
    "typed", [["--emit", "slurm"], ["--emit=slurm"], ["--retry"], ["--option", "a=b", "--option=c=d"]]
)
def test_words_for_the_cluster_are_left_out_of_the_command_for_the_board(typed):
    left = _without(["bench", "my spec.yaml", *typed, "--seeds", "3"], ("--emit", "--option"))
    assert left == ["bench", "my spec.yaml", "--seeds", "3"]


def test_a_job_that_does_not_exist_is_a_users_mistake(tmp_path):
    command = [sys.executable, "-m", "zoo_harness.start", "job", str(tmp_path / "job.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is no job" in done.stderr
