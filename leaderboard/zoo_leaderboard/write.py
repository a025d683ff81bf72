"""Write a board to disk."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo_core.errors import StorageError
from zoo_leaderboard.page import dumps, page
from zoo_leaderboard.render import csv, markdown


def write(board: Mapping[str, Any], directory: str | Path) -> list[Path]:
    """Write leaderboard.json, .md, .csv and .html into `directory` and return their paths.

    Each file is replaced in one step and has the same bytes for the same board. Raises `StorageError` where
    the directory cannot be written.
    """
    folder = Path(directory)
    texts = {
        "json": dumps(board, indent=1) + "\n",
        "md": markdown(board),
        "csv": csv(board),
        "html": page(board),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [_replace(folder / f"leaderboard.{suffix}", text) for suffix, text in texts.items()]
    except OSError as error:
        raise StorageError(f"The leaderboard cannot be written to {folder}: {error.strerror}.") from error


def _replace(path: Path, text: str) -> Path:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n", errors="replace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path
