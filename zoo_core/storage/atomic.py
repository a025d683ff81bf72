"""Atomic writing of text and JSON: a reader sees the old file or the new one, never half of one."""

import json
import os
from collections.abc import Iterable, Mapping
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
        temporary.unlink(missing_ok=True)
        raise StorageError(f"{path}: cannot be written ({error}). Nothing that was there before is lost.") from error
