"""References to the things of a world: `tinytown:base`, `tinytown/1?slips=0.2:preferences`. Imports nothing heavy."""

import os
import re
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from zoo_core.errors import ZooError, did_you_mean

_OURS = re.compile(r"tinytown(?:/(?P<world>[^:?]*))?(?:\?(?P<dials>[^:]*))?(?::(?P<thing>.*))?", re.DOTALL)
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)
_SHARE = re.compile(r"0|1|0?\.[0-9]{1,4}|1\.0{1,4}", re.ASCII)
SHIPPED = 0
"""The world whose base model comes with this package."""
LAST_WRITTEN = "world.json"
"""The file that a build writes last: a directory without it is not finished."""


@dataclass(frozen=True)
class Dials:
    """How good the people and the judge of a world are; None leaves them as they are. All from 0 to 1."""

    demonstrations: float | None = None
    """The mean skill of the writers of demonstrations: how likely they heed a part of a prompt."""
    slips: float | None = None
    """The mean rate at which annotators label a pair by mistake."""
    judge: float | None = None
    """The share of kind and rude words that the judge takes for what they are; it takes each of the others for one of
    the opposite, always the same."""

    def __str__(self) -> str:
        """Return the dials that are set, as in a reference."""
        return "&".join(f"{name}={value:g}" for name, value in asdict(self).items() if value is not None)


AS_THEY_ARE = Dials()


class Reference(NamedTuple):
    """What a reference names."""

    world: int
    dials: Dials
    thing: str


def parse_reference(ref: str, things: Collection[str], error: type[ZooError]) -> Reference | None:
    """Return the world's number, its dials and the thing that a reference names, or None if it is not one of Tinytown.

    Raise `error` for a reference of Tinytown to something that there is not.
    """
    match = _OURS.fullmatch(ref)
    if match is None or (match["thing"] is None and (match["world"] or match["dials"]) is not None):
        return None
    number = SHIPPED if match["world"] is None else parse_number(match["world"], ref, error)
    dials = Dials() if match["dials"] is None else parse_dials(match["dials"], ref, error)
    thing = match["thing"] or ""
    if thing not in things:
        raise error(f"{ref!r}: Tinytown has no {thing!r} here. {did_you_mean(thing, things)}")
    return Reference(number, dials, thing)


def parse_number(text: str, where: str, error: type[ZooError]) -> int:
    """Return the number of a world. Raise `error` if the text is not a whole number from 0 to 999999999."""
    if not _NUMBER.fullmatch(text):
        raise error(
            f"{where!r}: {text!r} is not the number of a world. "
            "Write a whole number from 0 to 999999999, as in 'tinytown/1:base'."
        )
    return int(text)


def parse_dials(text: str, where: str, error: type[ZooError]) -> Dials:
    """Return the dials of a text such as "slips=0.2&judge=0.75". Raise `error` for one that there is not."""
    values: dict[str, float] = {}
    known = list(Dials.__dataclass_fields__)
    for part in text.split("&"):
        name, _, value = part.partition("=")
        if name not in known:
            raise error(f"{where!r}: Tinytown has no dial {name!r}. {did_you_mean(name, known)}")
        if name in values:
            raise error(f"{where!r}: the dial {name!r} is set twice. Keep one of them.")
        if not _SHARE.fullmatch(value):
            raise error(f"{where!r}: {name}={value!r} must be a number from 0 to 1, with up to four decimals.")
        values[name] = float(value)
    return Dials(**values)


def base_directory(number: int, size: str = "base") -> Path:
    """Return the directory of a base model of a world, whether it is built yet or not."""
    if size != "base":
        return cache() / f"{number}-{size}"
    return Path(__file__).parent / "worlds" / "0" if number == SHIPPED else cache() / str(number)


def built_worlds() -> list[int]:
    """Return the numbers of the worlds whose base models are built."""
    found = cache().iterdir() if cache().is_dir() else ()
    numbers = {int(d.name) for d in found if _NUMBER.fullmatch(d.name) and (d / LAST_WRITTEN).is_file()}
    return sorted({SHIPPED} | numbers)


def cache() -> Path:
    """Return the directory of built worlds: below $ZOO_CACHE, or ~/.cache/rlhf-zoo."""
    return Path(os.environ.get("ZOO_CACHE") or Path.home() / ".cache" / "rlhf-zoo") / "tinytown"
