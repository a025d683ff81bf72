"""The rows of a world, written by a process of their own: the one that trains cannot import what writes them."""

import json
import subprocess
import sys
from collections.abc import Mapping

from zoo_core.errors import DataError
from zoo_tinytown.references import Reference

WRITER = "zoo_tinytown_gold"


def read_rows(wanted: Reference, seed: int) -> list[Mapping[str, object]]:
    """Return the rows of a data set of a world for a seed; `DataError` if they cannot be written."""
    name = f"tinytown/{wanted.world}{f'?{wanted.dials}' if str(wanted.dials) else ''}:{wanted.thing}"
    command = [sys.executable, "-m", WRITER, name, str(seed)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, encoding="utf-8", check=False)
    if ended.returncode:
        raise DataError(
            f"{name!r}: the rows of seed {seed} could not be written (exit status {ended.returncode}, the reason is "
            "above). They need the distribution zoo-tinytown-gold: pip install zoo-tinytown-gold."
        )
    return [json.loads(line) for line in ended.stdout.splitlines()]
