"""Which threads an algorithm starts while it trains: no operator that runs in them is counted, so they are flagged.

Threads of other languages, and those of the module `_thread`, are not seen: this finds carelessness, not malice.
"""

import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")
OF_PYTHON = ("threading", "concurrent", "multiprocessing", "asyncio", "contextvars", "queue")
"""Packages that run, in a thread, what others ask for."""
LIBRARIES = ("torch", "transformers", "tqdm", "datasets", "huggingface_hub")
"""Packages that start threads by themselves: to read weights, to show progress."""


class StartedThreads:
    """Watches the threads that start while one training makes its steps."""

    def __init__(self) -> None:
        self._found: dict[str, None] = {}

    def of(self, steps: Iterator[T]) -> Iterator[T]:
        """Yield the same steps; only a thread that is started while one is made counts."""
        while True:
            before = threading.getprofile()
            threading.setprofile(self._hear)
            try:
                step = next(steps)
            except StopIteration:
                return
            finally:
                threading.setprofile(before)
            yield step

    @property
    def flags(self) -> list[str]:
        """What is to be said of the training: whose code ran in the first of its threads."""
        return [f"started a thread, in which no compute is audited: {name}" for name in list(self._found)[:1]]

    def _hear(self, frame: FrameType, event: str, argument: Any) -> None:
        """See the first call, in a new thread, of something that is not Python's own, and look no further."""
        name = str(frame.f_globals.get("__name__", "?"))
        package = name.partition(".")[0]
        if event != "call" or package in OF_PYTHON:
            return
        sys.setprofile(None)
        if package not in LIBRARIES:
            self._found[name] = None
