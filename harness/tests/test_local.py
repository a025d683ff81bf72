"""The executor of one machine keeps the laws of all executors."""

import subprocess
import sys
import time
from collections.abc import Mapping
from typing import ClassVar

import pytest
from zoo_harness.testing.executors import ExecutorSuite, is_free, job_that, pretend


class TestLocal(ExecutorSuite):
    executor = "local"
    wrong: ClassVar = {"takes the option gpus alone, and cpus was given": {"cpus": "1"}}

    @pytest.fixture
    def options(self) -> Mapping[str, str]:
        return {"gpus": "one,two"}

    @pytest.mark.slow
    def test_jobs_that_run_at_once_have_different_gpus(self, tmp_path, options):
        jobs = [job_that(f"works:{number}", tmp_path) for number in range(2)]
        self.run(jobs, tmp_path, options)
        assert {(job.result() or {})["gpu"] for job in jobs} == {"one", "two"}


BENCH = """
import sys
from pathlib import Path
from zoo_harness.executors.local import Forks
from zoo_harness.job import of_file

job = of_file(Path(sys.argv[1]))
handle = Forks(["one", "two"]).start(job)
handle.wait() if job.processes > 1 else handle.join()
"""
"""What a bench does with a job."""


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_job_ends_when_its_bench_is_killed_and_another_bench_may_have_it(tmp_path, monkeypatch, processes):
    (tmp_path / "site").mkdir()
    pretend(tmp_path / "site", monkeypatch)
    job = job_that("hangs", tmp_path).model_copy(update={"processes": processes})
    job.directory.mkdir(parents=True)
    bench = subprocess.Popen([sys.executable, "-c", BENCH, job.write()])
    while not (job.directory / "left").exists():
        assert bench.poll() is None, (job.directory / "log.txt").read_text()
        time.sleep(0.1)
    bench.kill()
    bench.wait()
    assert is_free(job)
