"""What the command prints on: text as it is, whatever the terminal can show."""

import os
import sys

from rich.console import Console

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
