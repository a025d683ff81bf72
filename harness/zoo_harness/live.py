"""What a person sees while a bench runs: jobs that end scroll by, and a few lines under them say what runs."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import cast

from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text
from zoo_leaderboard.columns import plain

from zoo_harness.eta import Expected, TimeLeft, UnderWay, in_words
from zoo_harness.job import Job, Outcome, read_json
from zoo_harness.planning.estimate import figures, price_of
from zoo_harness.planning.plan import Plan
from zoo_harness.results import Begun, Progress, scored

WORDS = {
    "user-error": "failed",
    "train": "training",
    "label_pairs": "labelling",
    "calibrate": "calibrating",
    "score": "scoring",
    "held_out": "measuring",
}
LEAST_TITLE = 16
"""A title is shortened to this width before a number goes."""
BESIDE_TITLE = 56
"""Room for a seed, a state, a share, updates and a metric."""


@dataclass
class Running:
    """What is known of a job that runs."""

    job: Job
    began: float = field(default_factory=time.monotonic)
    before: float = 0.0
    """The share that was done when this bench first saw it."""
    share: float | None = None
    updates: int | None = None
    said: Sequence[str] = ()
    """Its first metrics, or what it does."""
    gpu: str | None = None

    def look(self) -> None:
        """Read its progress."""
        if self.gpu is None:
            begun = cast(Begun | None, read_json(self.job.directory / "begun.json"))
            self.gpu = begun.get("gpu") if begun and begun["identity"] == self.job.identity else None
        progress = cast(Progress, read_json(self.job.progress_file) or {})
        budget = progress.get("budget")
        before = progress.get("before", 0)
        if budget and before < budget:
            self.share = max(0.0, (progress["flops"] - before) / (budget - before))
        self.updates = progress.get("updates", self.updates)
        doing = progress.get("doing")
        self.said = _figures(progress.get("metrics", {})) or ([doing] if doing else self.said)

    def way(self) -> UnderWay:
        """How far it is."""
        return UnderWay(time.monotonic() - self.began, self.share)

    def cells(self) -> list[str]:
        """Title, seed, state, share of the budget, updates, and what it says."""
        share = "" if self.share is None else f"{min(1.0, self.share):.0%}"
        updates = "" if self.updates is None else f"{self.updates} updates"
        title = plain(trial_of(self.job) or self.job.row or self.job.title)
        where = WORDS[self.job.kind] + (f" on GPU {self.gpu[:12]}" if self.gpu else "")
        return [title, f"seed {self.job.seed}", where, share, updates, *self.said]


def trial_of(job: Job) -> str:
    """Return what is said of the trial that a job belongs to, "dpo-tuned trial 3 of 8"; nothing of another job."""
    return job.title.removeprefix("score ") if job.trial else ""


class LiveScreen:
    """Prints a line for each job that ends; on a terminal, shows under them what runs and the time left."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.interactive = console.is_terminal
        self.live = Live(console=console, refresh_per_second=4, transient=True)
        self.began = time.monotonic()
        self.jobs = self.done = self.failed = 0
        self.seen: dict[str, Running] = {}
        self.running: list[Running] = []
        self.left = TimeLeft({}, 1)
        self.told: set[str] = set()

    def __enter__(self) -> "LiveScreen":
        if self.interactive:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.interactive:
            self.live.stop()
            if self.jobs:
                self.console.print(f"{self._count()} in {clock(time.monotonic() - self.began)}")

    def planned(self, plan: Plan, jobs: Sequence[Job], workers: int) -> None:
        """Print what is unusual about the plan, and count the jobs."""
        found = figures(plan)
        for warning in found["warnings"]:
            self.console.print(f"note: {warning}")
        self.jobs = len(jobs)
        self.left = TimeLeft(
            {job.identity: Expected(_kind(job), price_of(plan, job)["seconds"]) for job in jobs}, workers
        )

    def watch(self, running: Sequence[Job]) -> None:
        """Read the progress of the jobs that run."""
        self.running = []
        for job in running:
            found = self.seen.get(job.identity)
            if found is None:
                found = self.seen[job.identity] = Running(job)
                found.look()
                found.before = found.share or 0.0
            else:
                found.look()
            self.running.append(found)
        self._show()

    def finished(self, job: Job, outcome: Outcome) -> None:
        """Print how a job ended."""
        seen = self.seen.pop(job.identity, None)
        self.running = [other for other in self.running if other is not seen]
        seconds = time.monotonic() - seen.began if seen else None
        good = outcome.status == "ok"
        self.done, self.failed = self.done + good, self.failed + (not good)
        self.left.ended(job.identity, seconds if good else None, seen.before if seen else 0.0)
        if good:
            state = "trained" if job.kind == "train" and job.row else "done"
            said = _scored(job) or (seen.said if seen and job.kind == "train" else [])
        else:
            state, said = WORDS.get(outcome.status, outcome.status), [self._once(outcome.error)]
        took = [] if seconds is None else [f"{seconds:.0f} s"]
        what = [f"{plain(job.title)} seed {job.seed}: {state}", *said, *took]
        if self.interactive:
            self.console.print(Text("  ".join(what), style="" if good else "red", overflow="fold"))
            self._show()
        else:
            place = [clock(time.monotonic() - self.began), f"{self.done + self.failed}/{self.jobs}"]
            self.console.print("  ".join(filter(None, [*place, *what, self._time_left()])), soft_wrap=True)

    def _once(self, error: str) -> str:
        """Return an error's first line; what failed because of it says so."""
        first = plain(error.strip().partition("\n")[0])
        known = first in self.told
        self.told.add(first)
        return "by the same error" if known else first

    def _count(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.done}/{self.jobs} jobs done{failed}"

    def _time_left(self) -> str:
        if self.done + self.failed >= self.jobs:
            return ""
        return in_words(self.left.seconds({running.job.identity: running.way() for running in self.running}))

    def _show(self) -> None:
        if self.interactive:
            self.live.update(Group(*(Text(line, no_wrap=True, overflow="crop") for line in self.lines())))

    def lines(self) -> list[str]:
        """Return the lines that stand under those that scroll by: they fit into the terminal."""
        width, most = self.console.width, max(1, self.console.height - 3)
        runs = f"{len(self.running)} running" if self.running else ""
        parts = [self._count(), runs, f"{clock(time.monotonic() - self.began)} so far"]
        found = [", ".join(filter(None, [*parts, self._time_left()]))]
        if cell_len(found[0]) > width:
            found = [", ".join(filter(None, [*parts[:2], self._time_left()]))]
        found += _aligned([running.cells() for running in self.running[:most]], width)
        if len(self.running) > most:
            found.append(f"  and {len(self.running) - most} more")
        return found


def _kind(job: Job) -> str:
    """Jobs that differ from their plan by one factor: a short stage is slow to start, which says nothing of rows."""
    return job.kind if job.row else f"stage {job.kind}"


def _aligned(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Return rows as lines with aligned cells; of a line that is too long, whole cells at its end are left out."""
    room = max(LEAST_TITLE, width - BESIDE_TITLE)
    short = [[_short(row[0], room), *row[1:]] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip_longest(*short, fillvalue="")]
    lines = []
    for row in short:
        line = ""
        for cell, size in zip(row, widths, strict=False):
            longer = f"{line}  {set_cell_size(cell, size)}" if size else line
            if cell_len(longer.rstrip()) > width:
                break
            line = longer
        lines.append(line.rstrip())
    return lines


def _short(title: str, width: int) -> str:
    """Return a title without its middle where it is too long: rows differ by their ends."""
    if cell_len(title) <= width:
        return title
    head = (width - 1) // 2
    tail = next(title[start:] for start in range(len(title)) if cell_len(title[start:]) <= width - 1 - head)
    return f"{set_cell_size(title, head)}…{tail}"


def _figures(metrics: dict[str, float]) -> list[str]:
    return [f"{name} {value:.3g}" for name, value in list(metrics.items())[:2]]


def _scored(job: Job) -> list[str]:
    found = scored(job) if job.kind == "score" and not job.trial else None
    if found is None:
        return []
    scores = found["scores"]
    shown = [("gold", scores["gold"]), ("proxy", scores["proxy"]), ("kl_start", scores["kl_start"])]
    return [f"{name} {value:.3f}" for name, value in shown if value is not None][:2]


def clock(seconds: float) -> str:
    """Return minutes and seconds, with hours where there are any."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
