"""What an algorithm computes in threads: no update's audit sees it, because PyTorch watches each thread by itself."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from zoo_core.accounting.audit import ExactCounter
from zoo_core.rollout import RolloutEngine
from zoo_core.session.outside import little_of
from zoo_harness.jobs.watched import watched
from zoo_harness.planning.identity import root_of

T = TypeVar("T")
LIBRARIES = ("torch", "transformers", "tqdm", "datasets", "huggingface_hub")
"""Packages that start threads by themselves: to read weights, to show progress."""
OF_PYTHON = ("threading", "concurrent", "multiprocessing", "asyncio")
"""Packages that start threads on behalf of others."""


class StartedThreads:
    """Counts what runs in the threads that start while one training makes its steps.

    A rollout engine that samples elsewhere has threads of its own; `run.sample` charges what it computes.
    """

    def __init__(self, budget: float, engine: RolloutEngine) -> None:
        elsewhere = (root_of(engine.__module__),) if getattr(engine, "samples_elsewhere", False) else ()
        self._budget = budget
        self._free = (*LIBRARIES, *elsewhere)
        self._counters: list[tuple[str, ExactCounter]] = []
        self._counted: set[threading.Thread] = {threading.main_thread()}

    def of(self, steps: Iterator[T]) -> Iterator[T]:
        """Yield the same steps; only a thread that is started while one is made counts."""
        return watched(steps, self._watch)

    @contextmanager
    def _watch(self) -> Iterator[None]:
        start = threading.Thread.start

        def counted_start(thread: threading.Thread) -> None:
            self._count(thread)
            start(thread)

        threading.Thread.start = counted_start  # type: ignore[method-assign,assignment]
        try:
            yield
        finally:
            threading.Thread.start = start  # type: ignore[method-assign]

    @property
    def flags(self) -> list[str]:
        """What is to be said of the training."""
        found = []
        total = sum(counter.total for _, counter in self._counters)
        if total > little_of(self._budget):
            name = max(self._counters, key=lambda one: one[1].total)[0]
            found.append(f"unmetered compute: {total:.3g} FLOPs in threads that {name} starts, which no audit sees")
        failed = [(name, counter.failed) for name, counter in self._counters if counter.failed]
        return found + [
            f"compute in threads that {name} starts could not be audited: {why}" for name, why in failed[:1]
        ]

    def _count(self, thread: threading.Thread) -> None:
        """Count what a thread will compute, unless a library starts it, or something that a library runs."""
        name = _who_starts()
        if root_of(name) in self._free or threading.current_thread() not in self._counted:
            return
        run, counter = thread.run, ExactCounter()

        def counted_run() -> None:
            with counter:
                run()

        thread.run = counted_run  # type: ignore[method-assign]
        self._counted.add(thread)
        self._counters.append((name, counter))


def _who_starts() -> str:
    """Return the module that starts a thread, itself or by one of Python's pools."""
    frame = sys._getframe(2).f_back
    while frame and root_of(str(frame.f_globals.get("__name__"))) in OF_PYTHON:
        frame = frame.f_back
    return str(frame.f_globals.get("__name__")) if frame else "?"
