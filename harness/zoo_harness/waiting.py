"""What a person sees before there is a plan: what is checked or measured just now, and for how long."""

import time
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.text import Text
from zoo_leaderboard.columns import plain

from zoo_harness.job import Job
from zoo_harness.live import clock
from zoo_harness.probing import Waiting


class WaitingScreen(Waiting):
    """Prints a line for everything that begins; on a terminal, a line under it moves until it ends."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.live = Live(console=console, refresh_per_second=4, transient=True)
        self.began = time.monotonic()
        self.jobs = 0
        self.seen: set[str] = set()

    def __enter__(self) -> "WaitingScreen":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def says(self, text: str, jobs: int = 0) -> None:
        """Something begins, which takes so many jobs."""
        self.began, self.jobs, self.seen = time.monotonic(), jobs, set()
        self.console.print(f"{text} ...", soft_wrap=True)

    def watch(self, running: Sequence[Job]) -> None:
        """Time goes by."""
        self.seen |= {job.identity for job in running}
        if self.console.is_terminal:
            self.live.update(Text(self.line(running), no_wrap=True, overflow="crop"))

    def line(self, running: Sequence[Job]) -> str:
        """Return what moves: how many are done, for how long this goes on, and what runs."""
        done = f"{len(self.seen) - len(running)}/{self.jobs} done, " if self.jobs > 1 else ""
        return f"{done}{clock(time.monotonic() - self.began)} so far: {', '.join(plain(job.title) for job in running)}"
