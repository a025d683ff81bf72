"""Jobs that succeed, raise, hang and are killed, on submitit's local cluster; what they compute is pretended."""

import json
import signal
from collections.abc import Mapping, Sequence
from typing import ClassVar

import psutil
import pytest
import submitit
from zoo_harness.job import Job
from zoo_harness.testing.executors import ExecutorSuite, job_that

from zoo_core.errors import SpecError
from zoo_core.registry.plugins import plugins


class TestSubmitit(ExecutorSuite):
    executor = "submitit"
    ends_after_seconds: ClassVar = {"timeout_min": "1.2"}
    wrong: ClassVar = {
        "Unknown argument 'partitoin'": {"slurm_partitoin": "gpu"},
        "timeout_min": {"timeout_min": "soon"},
        "lsf": {"cluster": "lsf"},
    }

    @pytest.fixture
    def options(self) -> Mapping[str, str]:
        return {"cluster": "local"}

    @pytest.fixture(autouse=True)
    def _short(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let a time limit be a part of a minute; submitit's local cluster warns a job 30 seconds before it."""
        whole = submitit.AutoExecutor._typed_parameters()
        monkeypatch.setattr(submitit.AutoExecutor, "_typed_parameters", lambda: {**whole, "timeout_min": float})

    @pytest.mark.slow
    def test_a_job_whose_node_dies_is_started_again_and_never_runs_twice_at_once(self, tmp_path, options, monkeypatch):
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

        assert self.run([job], tmp_path, options, node_dies)["waits once"].status == "ok"
        assert len(killed) == 2  # submitit's controller and its task
        assert (job.result() or {})["goes_on"]

    def test_a_job_that_its_node_cannot_start_is_not_started_again(self, tmp_path, options, monkeypatch):
        (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['zoo_submitit.executor'] = None")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        outcome = self.run([job_that("is done", tmp_path)], tmp_path, options)["is done"]
        assert outcome.status == "killed"
        assert "could not be started on its node" in outcome.error
        assert len(list(tmp_path.rglob("*_submitted.pkl"))) == 1

    def test_what_the_cluster_says_against_a_job_is_told_to_the_user(self, tmp_path, monkeypatch):
        refusal = "sbatch: error: invalid partition specified: gpu"
        for command in ("srun", "sbatch"):
            (tmp_path / command).write_text(f"#!/bin/bash\necho '{refusal}' >&2\nexit 1\n")
            (tmp_path / command).chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        with pytest.raises(SpecError, match=rf"took no job; mend the options or lower --workers\.(?s:.*){refusal}"):
            self.run([job_that("is done", tmp_path)], tmp_path, {"cluster": "auto", "slurm_partition": "gpu"})

    def test_options_are_what_the_user_typed(self, tmp_path, options, monkeypatch):
        """Numbers and lists as such, times of SLURM as text."""
        given: dict[str, object] = {}
        monkeypatch.setattr(submitit.AutoExecutor, "update_parameters", lambda self, **settings: given.update(settings))
        typed = {"timeout_min": "90", "slurm_setup": json.dumps(["module load cuda"]), "slurm_time": "2:00:00"}
        self.run([], tmp_path, {**options, **typed})
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
