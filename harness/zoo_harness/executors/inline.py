"""Jobs done in this process, one by one: for tests and debuggers, since errors are raised where they happen."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from zoo_core.storage.atomic import write_json
from zoo_harness.executors.runner import Runner
from zoo_harness.executors.scheduler import Finished, Watch
from zoo_harness.job import Job, Outcome


class Inline(Runner):
    """A runner whose jobs are function calls."""

    def __call__(self, jobs: Sequence[Job], finished: Finished, workers: int, watch: Watch, output: Path) -> None:
        """Do jobs in the order in which they are given."""
        for job in jobs:
            job.write()
            if job.result() is None:
                write_json(job.result_file, import_module(f"zoo_harness.jobs.{job.kind}").run(job))
            finished(job, Outcome(status="ok"))
