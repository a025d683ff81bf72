"""Write the rows of a data set of a world for a seed, one JSON object a line: `tinytown/0:preferences 3`."""

import json
import sys
from collections.abc import Iterator

from zoo_tinytown.plugin import KINDS
from zoo_tinytown.references import parse_reference

from zoo_core.errors import DataError, ZooError
from zoo_tinytown_gold.rows import Row, demonstrations, preferences, prompt_rows
from zoo_tinytown_gold.world import get_world


def rows(ref: str, seed: int) -> Iterator[Row]:
    """Yield the rows of a data set that algorithms learn from."""
    found = parse_reference(ref, KINDS, DataError)
    if found is None:
        raise DataError(f"{ref!r} is no data set of Tinytown.")
    world = get_world(found.world)
    if found.thing == "demonstrations":
        yield from demonstrations(world, seed, found.dials)
    elif found.thing == "prompts":
        yield from prompt_rows(world, "train", seed)
    else:
        from zoo_tinytown_gold.samples import start_pairs

        yield from preferences(world, seed, start_pairs(world, seed, found.dials), found.dials)


if __name__ == "__main__":
    try:
        for row in rows(sys.argv[1], int(sys.argv[2])):
            print(json.dumps(row, ensure_ascii=False))
    except ZooError as error:
        sys.exit(f"zoo tinytown: {error}")
