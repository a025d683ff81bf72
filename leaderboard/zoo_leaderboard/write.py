"""Write a board to disk."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo_core.storage.atomic import write_text
from zoo_leaderboard.page import dumps, page
from zoo_leaderboard.render import csv, markdown


def write(board: Mapping[str, Any], directory: str | Path) -> list[Path]:
    """Write leaderboard.json, .md, .csv and .html into `directory` and return their paths.

    Each file is replaced in one step and has the same bytes for the same board. Raises `StorageError` where
    the directory cannot be written.
    """
    folder = Path(directory)
    texts = {"json": as_json(board), "md": markdown(board), "csv": csv(board), "html": page(board)}
    paths = [folder / f"leaderboard.{suffix}" for suffix in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        write_text(path, text)
    return paths


def as_json(value: Mapping[str, Any]) -> str:
    """Return a board, or another file of a bundle, as JSON: the only text that it may be written as."""
    return dumps(value, indent=1) + "\n"
