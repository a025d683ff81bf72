"""What the command prints on: text as it is, whatever the terminal can show."""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from rich.table import Table

ENDLESS = 10_000
"""How wide a file is."""


def console(stderr: bool = False) -> Console:
    """Return a console that turns nothing which a user wrote into markup, a link's colours or an emoji.

    In a pipe or a file nothing is folded or left out, unless COLUMNS says how wide it is.
    """
    made = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not made.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
        made.width = ENDLESS
    return made


def show_what_can_be_shown() -> None:
    """Have "?" stand for characters that the terminal, or the file that output goes to, cannot hold."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # both are text files in a command


def print_found(
    found: Mapping[str, object], table: Callable[[int], "Table"], notes: Sequence[str], as_json: bool
) -> None:
    """Print JSON, or the table that there is room for, and notes."""
    if as_json:
        sys.stdout.write(json.dumps(found, indent=1, sort_keys=True) + "\n")
        return
    screen = console()
    screen.print(table(screen.width))
    for note in notes:
        screen.print(f"note: {note}")


def shown(path: Path) -> str:
    """Return a path as short as it can be written here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
