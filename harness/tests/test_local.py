"""The executor of one machine keeps the laws of all executors."""

from collections.abc import Mapping
from typing import ClassVar

import pytest
from zoo_harness.testing.executors import ExecutorSuite, job_that


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
