"""Watching a training while it makes a step, and not between two: what happens there is the harness's own."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TypeVar

T = TypeVar("T")


def watched(steps: Iterator[T], watching: Callable[[], AbstractContextManager[None]]) -> Iterator[T]:
    """Yield the same steps; each is made inside a context of its own."""
    while True:
        with watching():
            try:
                step = next(steps)
            except StopIteration:
                return
        yield step
