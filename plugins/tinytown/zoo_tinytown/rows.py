"""The rows of a world, written by a process of their own: the one that trains cannot import what writes them.

What was written is kept for all benches of this user, under the hash of all that it is made from: a bench reads the
same rows in each of its processes, and a writer takes up to a second.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from importlib.machinery import PathFinder
from pathlib import Path

from zoo_core.errors import DataError
from zoo_core.storage.atomic import write_text
from zoo_tinytown.references import Reference, base_directory, cache

WRITER = "zoo_tinytown_gold"
RECIPE = "zoo_sft"
"""The package with the recipe of a world's start, whose samples are labelled."""
WITH_THE_WRITER = "pip install zoo-tinytown-gold"


def read_rows(wanted: Reference, seed: int) -> list[Mapping[str, object]]:
    """Return the rows of a data set of a world for a seed; `DataError` if they cannot be written."""
    name = f"tinytown/{wanted.world}{f'?{wanted.dials}' if str(wanted.dials) else ''}:{wanted.thing}"
    kept = cache() / "rows" / f"{wanted.world}-{wanted.thing}-{seed}-{_identity(name, wanted)}.jsonl"
    if not kept.is_file():
        write_text(kept, _written(name, seed))
    return [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]


def _written(name: str, seed: int) -> str:
    command = [sys.executable, "-m", WRITER, name, str(seed)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, encoding="utf-8", check=False)
    if ended.returncode:
        raise DataError(
            f"{name!r}: the rows of seed {seed} could not be written (exit status {ended.returncode}, the reason is "
            f"above). They need the distribution zoo-tinytown-gold: {WITH_THE_WRITER}."
        )
    return ended.stdout


def _identity(name: str, wanted: Reference) -> str:
    """Hash what rows are made from: code, and for pairs the model and the recipe behind the samples that are labelled.

    Packages are located and never imported or asked: a process that trains has no writer, one that scores has no
    algorithm, and all of them have to read the same rows.
    """
    writer = _located(WRITER)
    if writer is None:
        raise DataError(f"{name!r}: its rows need the distribution zoo-tinytown-gold: {WITH_THE_WRITER}.")
    packages, made_from = [Path(__file__).parent, writer], list[Path]()
    if wanted.thing == "preferences":
        made_from.append(base_directory(wanted.world) / "model.safetensors")
        if recipe := _located(RECIPE):  # without it the writer says what is missing
            packages.append(recipe)
    made_from += [file for folder in packages for file in sorted(folder.rglob("*.py"))]
    digest = hashlib.sha256(f"{name} {sys.version_info[:2]}".encode())
    for file in made_from:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _located(package: str) -> Path | None:
    found = PathFinder.find_spec(package)
    return Path(found.origin).parent if found and found.origin else None
