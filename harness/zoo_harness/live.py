"""What a person sees while a bench runs: a live table of all cells, or plain lines where there is no terminal."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from zoo_harness.job import Job, Outcome, read_json
from zoo_harness.planning.estimate import figures
from zoo_harness.planning.plan import Plan
from zoo_harness.results import Progress, scored

WORDS = {
    "user-error": "failed",
    "train": "training",
    "label_pairs": "labelling",
    "calibrate": "calibrating",
    "score": "scoring",
}


@dataclass
class Cell:
    """One line of the table: a row of the board with one seed, or a stage."""

    title: str
    seed: int
    state: str = "waiting"
    share: float = 0.0
    updates: int | None = None
    score: str = ""
    began: float | None = None
    seconds: float = 0.0

    @property
    def left(self) -> str:
        """Time left, once there is something to judge by."""
        if self.state != "training" or self.began is None or not 0.02 < self.share < 1:
            return ""
        elapsed = time.monotonic() - self.began
        return _clock(elapsed / self.share - elapsed)


class LiveTable:
    """Shows every cell with its progress by budget, its latest score and the time left."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.cells: dict[tuple[str, int], Cell] = {}
        self.began = time.monotonic()
        self.live = Live(console=console, refresh_per_second=4, transient=False)
        self.interactive = console.is_terminal

    def __enter__(self) -> "LiveTable":
        if self.interactive:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.interactive:
            self.live.update(self._table(), refresh=True)
            self.live.stop()

    def planned(self, plan: Plan, jobs: Sequence[Job]) -> None:
        """Lay out the table."""
        for warning in figures(plan)["warnings"]:
            self.console.print(f"note: {warning}")
        for job in jobs:
            self.cells.setdefault(_place(job), Cell(*_place(job)))

    def watch(self, running: Sequence[Job]) -> None:
        """Read the progress of the jobs that run."""
        for job in running:
            cell = self.cells[_place(job)]
            cell.state = WORDS[job.kind]
            cell.began = cell.began or time.monotonic()
            progress = cast(Progress, read_json(job.progress_file) or {})
            budget = progress.get("budget")
            if budget:
                cell.share = progress["flops"] / budget
            cell.updates = progress.get("updates", cell.updates)
            cell.score = _headline(progress.get("metrics", {})) or cell.score
        if self.interactive:
            self.live.update(self._table())

    def finished(self, job: Job, outcome: Outcome) -> None:
        """Mark a job's end; in plain output print a line for it."""
        cell = self.cells[_place(job)]
        ended = outcome.status == "ok"
        if not ended:
            cell.state = WORDS.get(outcome.status, outcome.status)
            cell.score = outcome.error[:60]
        elif job.kind == "score" or not job.row:
            cell.state, cell.share = "done", 1.0
            cell.score = _scored(job) or cell.score
        else:
            cell.state, cell.share = "trained", 1.0
        cell.seconds = time.monotonic() - cell.began if cell.began else 0.0
        if not self.interactive:
            what = f"{_clock(time.monotonic() - self.began)}  {job.title} seed {job.seed}: {cell.state}  {cell.score}"
            self.console.print(what.rstrip(), soft_wrap=True)

    def _table(self) -> Table:
        table = Table(title=f"zoo bench, {_clock(time.monotonic() - self.began)}", title_justify="left")
        for name in ("row", "seed", "state", "budget", "updates", "score", "left"):
            table.add_column(name, justify="right" if name in ("seed", "updates", "left") else "left")
        for cell in self.cells.values():
            bar = ProgressBar(total=1.0, completed=min(1.0, cell.share), width=20)
            updates = "" if cell.updates is None else str(cell.updates)
            table.add_row(cell.title, str(cell.seed), cell.state, bar, updates, cell.score, cell.left)
        return table


def _place(job: Job) -> tuple[str, int]:
    return (job.row or job.title, job.seed)


def _headline(metrics: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.3g}" for name, value in list(metrics.items())[:2])


def _scored(job: Job) -> str:
    found = scored(job) if job.kind == "score" else None
    if found is None:
        return ""
    scores = found["scores"]
    shown = [("gold", scores["gold"]), ("proxy", scores["proxy"]), ("kl_start", scores["kl_start"])]
    return "  ".join(f"{name} {value:.3f}" for name, value in shown if value is not None)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
