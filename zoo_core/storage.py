"""Writing text and JSON so that a reader sees the old file or the new one, never half of one."""

import json
import os
from pathlib import Path
from uuid import uuid4

from zoo_core.errors import StorageError


def write_json(path: Path, value: object) -> None:
    """Write JSON atomically; keys sorted, no NaN; `StorageError` if the disk is full."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically; `StorageError` if the disk is full."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StorageError(f"{path}: cannot be written ({error}). Nothing that was there before is lost.") from error
