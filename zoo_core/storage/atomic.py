"""Atomic writing of text and JSON: a reader sees the old file or the new one, never half of one.

Every file has the mode that the umask gives, so that whoever may read one file of a result may read all of them.
"""

import json
import os
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from zoo_core.errors import StorageError


def write_json(path: Path, value: object) -> None:
    """Write JSON atomically, with sorted keys and without NaN; `StorageError` if the disk is full."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n")


def write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write rows as JSON, one per line, atomically; `zoo_core.datasets.files.read_rows` reads the same rows."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def write_text(path: Path, text: str) -> None:
    r"""Write a text file in UTF-8 atomically, with unchanged line ends; `StorageError` if the disk is full.

    Half of a surrogate pair, which UTF-8 cannot hold, is written as in JSON: \udc80.
    """
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):  # it may be that a file stands where its folder should
            temporary.unlink()
        raise StorageError(f"{path}: cannot be written ({error}). Nothing that was there before is lost.") from error


def give_ordinary_mode(path: Path) -> None:
    """Give a file the mode that a new one has in its folder.

    Safetensors writes to a temporary file that nobody else may read, and renames it. A file is made to see what the
    umask gives: reading it without setting it for all threads is not possible everywhere.
    """
    ordinary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    ordinary.touch()
    mode = ordinary.stat().st_mode
    ordinary.unlink()
    path.chmod(stat.S_IMODE(mode))
