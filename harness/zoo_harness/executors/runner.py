"""What runs the jobs of a bench: this machine, or a place that a plugin brings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zoo_core.errors import SpecError, did_you_mean
from zoo_core.records import Executor, load_path
from zoo_core.registry.plugins import plugins
from zoo_harness.executors.gpus import gpus_of
from zoo_harness.executors.scheduler import Finished, Watch
from zoo_harness.job import Job

LOCAL = Executor(name="local", summary="Processes of this machine.", run="zoo_harness.executors.local:run")


@dataclass(frozen=True)
class Runner:
    """An executor by its name, and the options that the user gave for it."""

    executor: str = LOCAL.name
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_local(self) -> bool:
        """Whether jobs share the cores of this machine. Elsewhere a queue decides how many run at once."""
        return self.executor == LOCAL.name

    @property
    def most_processes(self) -> int:
        """How many processes may share one job: on this machine one for each GPU, elsewhere one."""
        return max(1, len(gpus_of(self.options))) if self.is_local else 1

    def __call__(self, jobs: Sequence[Job], finished: Finished, workers: int, watch: Watch, output: Path) -> None:
        """Run jobs until none is left that can run."""
        executors = {**plugins().executors, LOCAL.name: LOCAL}
        if self.executor not in executors:
            raise SpecError(f"there is no executor {self.executor!r}. {did_you_mean(self.executor, executors)}")
        record = executors[self.executor]
        run = load_path(record.run)
        run(jobs, finished, workers, watch, {**record.options, **self.options}, output.resolve() / self.executor)
