"""Two sides of a comparison in two processes that live through all of it, so that neither changes what the other runs.

A process that serves reads a line of JSON, does what it asks, and answers with a line of JSON. Whatever libraries print
goes to stderr. It gives its GPU memory back before it answers.
"""

import gc
import json
import os
import select
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from base import made

PATIENCE = 200.0
"""Seconds that an answer may take; then the process is ended and the question has failed."""


def serve(deeds: Mapping[str, Callable[..., dict[str, Any]]]) -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            found = deeds[asked.pop("do")](**asked)
        except Exception as error:
            where = "".join(traceback.format_tb(error.__traceback__)[-6:])
            found = {"error": f"{where}{type(error).__name__}: {str(error).strip().splitlines()[:1]}"}
        free()
        answers.write(f"{json.dumps(found)}\n")
        answers.flush()


def free() -> None:
    """Give memory back to the GPU, for the other side."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def synchronise() -> None:
    """Wait for the GPU, if there is one."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def begin_memory() -> float:
    """Forget the highest memory so far; return the GB that are held already."""
    import torch

    free()
    if not torch.cuda.is_available():
        return 0.0
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated() / 1e9


def highest_memory() -> float | None:
    """Return the most GB that the allocator had given out since; None without a GPU."""
    import torch

    return torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else None


def most_held(blocks: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the most GB that a block took above what was held before it; None without a GPU."""
    return max((one["gigabytes"] - one["held"] for one in blocks if one["gigabytes"] is not None), default=None)


class Side:
    """A process that serves, seen from the one that asks."""

    def __init__(self, script: Path, python: str, *given: object) -> None:
        self.command = [python, "-u", str(script), *map(str, given)]
        self.process: subprocess.Popen[bytes] | None = None

    def ask(self, do: str, **asked: Any) -> dict[str, Any]:
        """Return the answer; `{"error": ...}` if there is none."""
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(f"{json.dumps({'do': do, **asked})}\n".encode())
        except BrokenPipeError:
            return {"error": f"{self.command[2]} ended with {self.process.wait()}"}
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = b""
        while ready and not line.endswith(b"\n"):
            part = self.process.stdout.read(2**16)
            if not part:
                break
            line += part
        if line.endswith(b"\n"):
            found: dict[str, Any] = json.loads(line)
            return found
        why = "gave no answer in time" if not ready else "ended without an answer"
        self.process.kill()
        return {"error": f"{self.command[2]} {why} ({self.process.wait()})"}

    def close(self) -> None:
        """End the process."""
        if self.process is not None and self.process.poll() is None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            self.process.wait(60)


@contextmanager
def sides(trl_python: str, tiny: bool) -> Iterator[tuple[Side, Side]]:
    """Make the base model; return the zoo and TRL, whose processes begin when they are first asked."""
    here, folder = Path(__file__).parent, Path(tempfile.gettempdir()) / "zoo-gpu"
    folder.mkdir(exist_ok=True)
    made(folder, tiny)
    flags = ["--tiny"] * tiny
    both = (
        Side(here / "zoo_side.py", sys.executable, folder, *flags),
        Side(here / "trl_side.py", trl_python, folder, *flags),
    )
    try:
        yield both
    finally:
        for side in both:
            side.close()
