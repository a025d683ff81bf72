"""What the command prints on: text as it is, whatever the terminal can show."""

import sys

from rich.console import Console


def console(stderr: bool = False) -> Console:
    """Return a console that turns nothing which a user wrote into markup, a link's colours or an emoji."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def show_what_can_be_shown() -> None:
    """Have "?" stand for characters that the terminal, or the file that output goes to, cannot hold."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # both are text files in a command
