"""References to the things of a world: `tinytown:base`, `tinytown/1:preferences`. Imports nothing heavy."""

import os
import re
from collections.abc import Collection
from pathlib import Path

from zoo_core.errors import ZooError, did_you_mean

_OURS = re.compile(r"tinytown(?:/(?P<world>[^:]*))?(?::(?P<thing>.*))?", re.DOTALL)
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)
SHIPPED = 0
"""The world whose base model comes with this package."""
LAST_WRITTEN = "world.json"
"""The file that a build writes last: a directory without it is not finished."""


def parse_reference(ref: str, things: Collection[str], error: type[ZooError]) -> tuple[int, str] | None:
    """Return the world's number and the thing that a reference names, or None if it is not one of Tinytown.

    Raise `error` for a reference of Tinytown to something that there is not.
    """
    match = _OURS.fullmatch(ref)
    if match is None or (match["thing"] is None and match["world"] is not None):
        return None
    number = SHIPPED if match["world"] is None else parse_number(match["world"], ref, error)
    thing = match["thing"] or ""
    if thing not in things:
        raise error(f"{ref!r}: Tinytown has no {thing!r} here. {did_you_mean(thing, things)}")
    return number, thing


def parse_number(text: str, where: str, error: type[ZooError]) -> int:
    """Return the number of a world. Raise `error` if the text is not a whole number from 0 to 999999999."""
    if not _NUMBER.fullmatch(text):
        raise error(
            f"{where!r}: {text!r} is not the number of a world. "
            "Write a whole number from 0 to 999999999, as in 'tinytown/1:base'."
        )
    return int(text)


def base_directory(number: int) -> Path:
    """Return the directory of the base model of a world, whether it is built yet or not."""
    return Path(__file__).parent / "worlds" / "0" if number == SHIPPED else cache() / str(number)


def built_worlds() -> list[int]:
    """Return the numbers of the worlds whose base models are built."""
    found = cache().iterdir() if cache().is_dir() else ()
    numbers = {int(d.name) for d in found if _NUMBER.fullmatch(d.name) and (d / LAST_WRITTEN).is_file()}
    return sorted({SHIPPED} | numbers)


def cache() -> Path:
    """Return the directory of built worlds: below $ZOO_CACHE, or ~/.cache/rlhf-zoo."""
    return Path(os.environ.get("ZOO_CACHE") or Path.home() / ".cache" / "rlhf-zoo") / "tinytown"
