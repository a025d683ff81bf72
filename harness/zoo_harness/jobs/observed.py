"""What the plugins that watch are told about a training. One that raises harms nobody; its failure is remembered."""

from collections.abc import Mapping
from dataclasses import fields

from zoo_core import records
from zoo_core.accounting.report import LedgerReport
from zoo_core.compute.processes import is_main_process
from zoo_core.registry.plugins import plugins
from zoo_core.session.session import Session
from zoo_harness.job import Job
from zoo_harness.payloads import Training


class Observed:
    """A training as observers see it."""

    def __init__(self, job: Job, payload: Training, config: object, before: int) -> None:
        self.budget, self.before = payload.budget, before
        """FLOPs that the training may spend, and those that its stages spent."""
        self.weights = job.directory / "final"
        self.failures = set[str]()
        """A line for each failure of an observer."""
        stage = "" if job.row else job.title.removeprefix("stage ")
        trial = f"/trial-{job.trial}" if job.trial else ""
        self.training = records.Training(
            name=f"{job.row or f'stages/{stage}'}{trial}-seed{job.seed}",  # no row has a stroke in its name
            row=job.row,
            stage=stage,
            seed=job.seed,
            algorithm=payload.algorithm,
            settings={one.name: getattr(config, one.name) for one in fields(config)},  # type: ignore[arg-type]
            budget=payload.budget,
            identity=job.identity,
            directory=job.directory,
            bench=payload.spec.name,
            output=payload.output or job.directory,
            tracker=payload.spec.tracker,
        )

    def started(self) -> None:
        """Tell them that it begins."""
        self._tell("zoo_run_started")

    def updated(self, session: Session, metrics: Mapping[str, float]) -> None:
        """Tell them of an update, which the ledger does not count yet: it counts those that are complete."""
        flops = self.before + session.ledger.flops
        progress = records.Progress(
            update=session.ledger.updates,
            stage=session.stage,
            flops=flops,
            share=flops / self.budget if self.budget else None,
            metrics=metrics,
        )
        self._tell("zoo_run_updated", progress=progress)

    def finished(self, weights_sha256: str, ledger: LedgerReport) -> None:
        """Tell them what it left."""
        finished = records.Finished(
            weights=self.weights,
            weights_sha256=weights_sha256,
            updates=ledger["updates"],
            flops=self.before + ledger["flops"],
            ledger=ledger,
        )
        self._tell("zoo_run_finished", finished=finished)

    def _tell(self, hook: str, **seen: object) -> None:
        """Tell once, of several processes."""
        if is_main_process():
            self.failures |= set(plugins().observe(hook, training=self.training, **seen))
