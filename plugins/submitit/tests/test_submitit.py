"""Jobs that succeed, raise, hang and are killed, on submitit's local cluster; what they compute is pretended."""

import json
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil
import pytest
import submitit
from filelock import Timeout
from zoo_harness.job import Job, Outcome, read_json
from zoo_submitit.executor import run

from zoo_core.errors import SpecError
from zoo_core.registry.plugins import plugins

PRETENDED = """
import os, signal, sys, time, types
from pathlib import Path

def compute(job):
    left = job.directory / "left"
    before = left.exists()
    left.touch()
    does = job.payload["does"]
    if does == "raises":
        raise ValueError("this cell raises")
    if does == "exits":
        sys.exit("this cell exits")
    if does == "dies" or (does == "dies once" and not before):
        os.kill(os.getpid(), signal.SIGKILL)
    if does == "hangs":
        time.sleep(100)
    if does == "waits once" and not before:
        time.sleep(100)
    return {"identity": job.identity, "goes_on": before}

sys.modules["zoo_harness.jobs.train"] = types.SimpleNamespace(run=compute)
"""
"""Stands in for training in every process, by Python's own way to run something at its start."""

Finish = Callable[[Job, Outcome], None]
Watch = Callable[[Sequence[Job]], None]


@pytest.fixture(autouse=True)
def pretended(tmp_path_factory, monkeypatch):
    site = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text(PRETENDED)
    monkeypatch.setenv("PYTHONPATH", str(site))


@pytest.fixture
def short(monkeypatch):
    """Let a time limit be a part of a minute; submitit's local cluster warns a job 30 seconds before it."""
    whole = submitit.AutoExecutor._typed_parameters()
    monkeypatch.setattr(submitit.AutoExecutor, "_typed_parameters", lambda: {**whole, "timeout_min": float})


def job_that(does: str, folder: Path, needs: Sequence[str] = ()) -> Job:
    name = does.replace(" ", "-")
    return Job(
        kind="train",
        title=does,
        directory=folder / "cells" / name,
        identity=does,
        needs=tuple(needs),
        payload={"does": does, "spec": {"name": "made"}},
    )


def on_the_cluster(
    jobs: Sequence[Job],
    folder: Path,
    watch: Watch = lambda running: None,
    **options: object,
) -> dict[str, Outcome]:
    ended: dict[str, Outcome] = {}
    defaults = plugins().executors["submitit"].options

    def finished(job: Job, outcome: Outcome) -> None:
        assert job.title not in ended
        ended[job.title] = outcome

    given: Mapping[str, object] = {**defaults, "cluster": "local", **options}
    run(jobs, finished, 2, watch, given, folder / "submitit")
    return ended


def attempts(job: Job) -> int:
    return (read_json(job.directory / "begun.json") or {})["attempts"]


@pytest.mark.slow
def test_cells_succeed_raise_exit_and_die_each_for_itself(tmp_path):
    done = job_that("is done", tmp_path)
    jobs = [done, *(job_that(does, tmp_path) for does in ("raises", "exits", "dies once", "dies"))]
    jobs.append(job_that("is done, too", tmp_path, needs=["is done"]))
    jobs.append(job_that("never starts", tmp_path, needs=["is done", "raises"]))
    ended = on_the_cluster(jobs, tmp_path)
    assert {title: outcome.status for title, outcome in ended.items()} == {
        "is done": "ok",
        "is done, too": "ok",
        "raises": "failed",
        "never starts": "failed",
        "exits": "failed",
        "dies": "killed",
        "dies once": "ok",
    }
    assert ended["raises"].error == ended["never starts"].error == "ValueError: this cell raises"
    assert ended["exits"].error == "SystemExit: this cell exits"
    assert "was killed by SIGKILL" in ended["dies"].error
    by_title = {job.title: job for job in jobs}
    assert by_title["dies once"].result() == {"identity": "dies once", "goes_on": True}
    tried = {title: attempts(job) for title, job in by_title.items() if title != "never starts"}
    assert tried == {"is done": 1, "is done, too": 1, "raises": 1, "exits": 1, "dies once": 2, "dies": 2}
    assert "Traceback" in (by_title["raises"].directory / "log.txt").read_text()


@pytest.mark.slow
def test_a_cell_that_hangs_is_ended_by_the_time_limit_and_reported_as_such(tmp_path, short):
    job = job_that("hangs", tmp_path)
    ended = on_the_cluster([job], tmp_path, timeout_min=1.2)
    assert ended["hangs"].status == "killed"
    assert ended["hangs"].error.startswith("the process reached its time limit of 1.2 minutes")
    assert attempts(job) == 1
    assert job.failure() is None  # so that the same command goes on with it
    assert is_free(job)


@pytest.mark.slow
def test_a_cell_whose_node_dies_is_started_again_and_never_runs_twice_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(submitit.Job, "_results_timeout_s", 1)  # else 15 seconds for a file that will not come
    job = job_that("waits once", tmp_path)
    killed: list[int] = []

    def node_dies(running: Sequence[Job]) -> None:
        if not killed and (job.directory / "left").exists():
            for process in psutil.Process().children(recursive=True):
                command = " ".join(process.cmdline())  # earlier tests' controllers may still be ending
                if "submitit" in command and str(tmp_path) in command:
                    process.send_signal(signal.SIGKILL)
                    killed.append(process.pid)

    assert on_the_cluster([job], tmp_path, node_dies)["waits once"].status == "ok"
    assert len(killed) == 2  # submitit's controller and its task
    assert job.result() == {"identity": "waits once", "goes_on": True}


def test_a_cell_that_its_node_cannot_start_is_not_started_again(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['zoo_submitit.executor'] = None")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    outcome = on_the_cluster([job_that("succeeds", tmp_path)], tmp_path)["succeeds"]
    assert outcome.status == "killed"
    assert "could not be started on its node" in outcome.error
    assert len(list(tmp_path.rglob("*_submitted.pkl"))) == 1


@pytest.mark.slow
def test_ctrl_c_cancels_what_was_submitted(tmp_path):
    job = job_that("hangs", tmp_path)

    def interrupt(running: Sequence[Job]) -> None:
        if (job.directory / "left").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        on_the_cluster([job], tmp_path, interrupt)
    assert is_free(job)
    assert job.result() is job.failure() is None


def is_free(job: Job) -> bool:
    try:
        with job.lock().acquire(blocking=False):
            return True
    except Timeout:
        return False


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"slurm_partitoin": "gpu"}, "Unknown argument 'partitoin'"),
        ({"timeout_min": "soon"}, "timeout_min"),
        ({"cluster": "lsf"}, "lsf"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_submitted(tmp_path, option, says):
    job = job_that("is done", tmp_path)
    with pytest.raises(SpecError, match=says):
        on_the_cluster([job], tmp_path, **option)
    assert not job.directory.exists()


def test_what_the_cluster_says_against_a_job_is_told_to_the_user(tmp_path, monkeypatch):
    refusal = "sbatch: error: invalid partition specified: gpu"
    for command in ("srun", "sbatch"):
        (tmp_path / command).write_text(f"#!/bin/bash\necho '{refusal}' >&2\nexit 1\n")
        (tmp_path / command).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(SpecError, match=rf"took no job; mend the options or lower --workers\.(?s:.*){refusal}"):
        on_the_cluster([job_that("is done", tmp_path)], tmp_path, cluster="auto", slurm_partition="gpu")


def test_options_are_what_the_user_typed(tmp_path, monkeypatch):
    """Numbers and lists as such, times of SLURM as text."""
    given: dict[str, object] = {}
    monkeypatch.setattr(submitit.AutoExecutor, "update_parameters", lambda self, **settings: given.update(settings))
    typed = {"timeout_min": "90", "slurm_setup": json.dumps(["module load cuda"]), "slurm_time": "2:00:00"}
    on_the_cluster([], tmp_path, **typed)
    assert given == {
        "timeout_min": 90,
        "cpus_per_task": 1,
        "slurm_setup": ["module load cuda"],
        "slurm_time": "2:00:00",
    }


def test_listing_it_imports_no_submitit():
    record = plugins().executors["submitit"]
    assert record.run == "zoo_submitit.executor:run"
    assert record.options["cluster"] == "auto"
