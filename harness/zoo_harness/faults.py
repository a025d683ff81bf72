"""All that is wrong with an input, told at once."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from zoo_core.errors import ZooError


class Faults:
    """Mistakes of a user, collected so that all of them are told at once."""

    def __init__(self) -> None:
        self._found: dict[str, ZooError] = {}

    @contextmanager
    def noted(self, key: str = "") -> Iterator[None]:
        """Note the mistake that ends this block, with the key of the spec it belongs to, and go on behind it."""
        try:
            yield
        except ZooError as error:
            for one in getattr(error, "faults", [error]):
                found = type(one)(f"{key}: {one}") if key else one
                # One file may be read for several purposes, which meet the same mistake in other lines of it.
                self._found.setdefault(re.sub(r":\d+:", ":", str(found), count=1), found)

    def tell(self) -> None:
        """Raise what was found: the mistake itself if it is one, else all of them, numbered, each in a line."""
        found = [*self._found.values()]
        if len(found) == 1:
            raise found[0]
        if found:
            lines = [f"({number}) {error}" for number, error in enumerate(found, start=1)]
            kinds = {type(error) for error in found}
            kind = kinds.pop() if len(kinds) == 1 else ZooError
            several = kind("\n".join([f"{len(lines)} things are wrong with the input:", *lines]))
            several.faults = found  # type: ignore[attr-defined]  # for who collects more
            raise several
