"""Which files an algorithm opens while it trains: what it writes elsewhere, or reads of others, is flagged by name.

Python tells of each file that is opened (PEP 578). Libraries that open files in other languages are not seen: this
finds mistakes and carelessness, not malice, which can turn it off.
"""

import os
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from zoo_harness.jobs.watched import watched

T = TypeVar("T")
WEIGHTS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".npz", ".npy", ".gguf")
CHANGING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

CHANGES = {
    "os.remove": (0,), "os.rename": (0, 1), "os.mkdir": (0,), "os.rmdir": (0,), "os.truncate": (0,),
    "os.symlink": (1,), "os.link": (1,),
}  # fmt: skip
"""By event: which of its arguments are paths that it changes."""
PROGRAMS = {"subprocess.Popen": 0, "os.system": 0, "os.exec": 0, "os.posix_spawn": 0, "os.spawn": 1}
"""By event: which of its arguments is a program that it starts, whose files are not seen."""
COMPILERS = ("cc", "c++", "gcc", "g++", "clang", "clang++", "nvcc", "ptxas", "lscpu", "uname", "ldconfig")
"""Programs that libraries start by themselves."""


class OpenedFiles:
    """Watches the files of one training."""

    def __init__(self, folder: Path, hidden: Collection[Path]) -> None:
        self._own = folder.resolve()
        self._others = [self._own.parent, *(self._own.parent.parent / name for name in ("records", "scores"))]
        caches = (Path.home() / ".cache", os.environ.get("XDG_CACHE_HOME"), os.environ.get("HF_HOME"))
        anywhere = [tempfile.gettempdir(), "/dev", "/proc", *(cache for cache in caches if cache)]
        self._free = [self._own, *(Path(path).resolve() for path in anywhere)]
        self._hidden = [path.resolve() for path in hidden]
        self._watching = False
        self._found: dict[str, str] = {}
        sys.addaudithook(self._hear)

    def of(self, steps: Iterator[T]) -> Iterator[T]:
        """Yield the same steps; only what is opened while one is made counts."""
        return watched(steps, self._watch)

    @contextmanager
    def _watch(self) -> Iterator[None]:
        self._watching = True
        try:
            yield
        finally:
            self._watching = False

    @property
    def flags(self) -> list[str]:
        """What is to be said of the training, the first file of each kind."""
        return [f"{what}: {path}" for what, path in sorted(self._found.items())]

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self._watching:
            return
        if event == "open":
            path, _, flags = arguments
            self._see(path, isinstance(flags, int) and bool(flags & CHANGING))
        elif event in PROGRAMS:
            self._see_program(arguments[PROGRAMS[event]])
        else:
            for place in CHANGES.get(event, ()):
                self._see(arguments[place], True)

    def _see_program(self, named: object) -> None:
        command = os.fsdecode(named) if isinstance(named, str | bytes | os.PathLike) else "?"
        program = Path(command.split()[0] if command.split() else "?").name
        if program not in COMPILERS:
            self._found.setdefault("started a program, whose files are not seen", program)

    def _see(self, named: object, changes: bool) -> None:
        if not isinstance(named, str | bytes | os.PathLike):
            return  # a file that is open already
        self._watching = False  # what follows asks the file system, too
        try:
            path = Path(os.fsdecode(named)).resolve()
        finally:
            self._watching = True
        if any(path.is_relative_to(folder) for folder in self._hidden):
            self._found.setdefault("opened what holds gold, or prompts that are scored", path.name)
        elif path.is_relative_to(self._own):
            return
        elif any(path.is_relative_to(folder) for folder in self._others):
            what = "wrote into another row's folder" if changes else "read what belongs to another row"
            self._found.setdefault(what, str(path.relative_to(self._own.parent.parent)))
        elif changes and "__pycache__" not in path.parts and not any(path.is_relative_to(one) for one in self._free):
            self._found.setdefault("wrote outside of its folder", str(path))


@contextmanager
def own_temporary_folder() -> Iterator[None]:
    """Give this process a temporary folder of its own, so that no training finds there what another left."""
    asked, known = os.environ.get("TMPDIR"), tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="zoo-") as folder:
        tempfile.tempdir = os.environ["TMPDIR"] = folder
        try:
            yield
        finally:
            tempfile.tempdir = known
            if asked is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = asked


def shipped_weights(package: str) -> list[str]:
    """Return a flag if a package holds files that look like the weights of a model."""
    found = find_spec(package)
    if found is None or not found.origin or Path(found.origin).name != "__init__.py":
        return []
    names = sorted(path.name for path in Path(found.origin).parent.rglob("*") if path.suffix in WEIGHTS)
    return [f"its package ships weights: {', '.join(names)}"] if names else []
