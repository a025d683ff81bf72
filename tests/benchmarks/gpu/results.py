"""The file of results, and the arguments that every part takes.

Each part writes a result as soon as it has it and leaves out what the file has already, so that a run that was cut goes
on where it was. The file is `results.json` in $OUT, or in ./gpu-results where OUT is not set. Where $OUT is empty, what
an earlier run left in ./gpu-results is taken over.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path("gpu-results")
NAME = "results.json"


def arguments(what: str) -> argparse.ArgumentParser:
    """Return the parser of a part's arguments, with those that all parts have."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--tiny", action="store_true", help="a rehearsal on a CPU: a tiny model and few updates")
    parser.add_argument("--minutes", type=float, default=6.0, help="begin nothing new after so long")
    parser.add_argument("--python", default=sys.executable, help="the Python that has TRL")
    return parser


class Results:
    """The results of all parts; a rehearsal has a file of its own."""

    def __init__(self, tiny: bool) -> None:
        self.file = Path(os.environ.get("OUT") or HERE) / (f"tiny-{NAME}" if tiny else NAME)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        before = HERE / self.file.name
        if not self.file.exists() and before.exists():
            self.file.write_text(before.read_text())

    def read(self) -> dict[str, Any]:
        """Return all results by part and name."""
        known: dict[str, Any] = json.loads(self.file.read_text()) if self.file.exists() else {}
        return known

    def has(self, part: str, name: str) -> bool:
        """Return whether there is a result of this name."""
        return name in self.read().get(part, {})

    def keep(self, part: str, name: str, found: dict[str, Any]) -> None:
        """Write a result down; the file is complete at every moment."""
        known = self.read()
        known.setdefault(part, {})[name] = found
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
        new.replace(self.file)
        print(f"{part} {name}: {json.dumps(found)[:600]}", flush=True)

    def through(self, part: str, names: list[str], minutes: float, measure: Callable[[str], dict[str, Any]]) -> None:
        """Measure what is not known yet, until the time is over."""
        end = time.monotonic() + 60 * minutes
        for name in names:
            if self.has(part, name):
                print(f"{part} {name}: known", flush=True)
            elif time.monotonic() > end:
                print(f"{part} {name}: left for the next run, {minutes:g} minutes are over", flush=True)
            else:
                found = measure(name)
                if "error" in found:
                    print(f"{part} {name}: FAILED, and will be tried again\n{found['error']}", flush=True)
                else:
                    self.keep(part, name, found)
