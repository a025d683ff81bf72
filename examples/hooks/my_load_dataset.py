"""Data without files: `prompts: count:100` asks for the next number."""

import random
from collections.abc import Iterable, Mapping

from zoo_core.errors import DataError
from zoo_core.hookspecs import hookimpl
from zoo_core.rows import Kind

SPLITS = {"dev_prompts": 1, "test_prompts": 2}


@hookimpl
def zoo_load_dataset(ref: str, kind: Kind, seed: int) -> Iterable[Mapping[str, object]] | None:
    """Return questions, with answers where demonstrations are wanted; no test question is ever trained on."""
    prefix, colon, count = ref.partition(":")
    if prefix != "count" or not colon:
        return None
    if kind == "preferences" or not count.isdigit():
        raise DataError(f"{ref}: write count:NUMBER, for demonstrations or prompts.")
    numbers = [number for number in range(3 * int(count)) if number % 3 == SPLITS.get(kind, 0)]
    random.Random(seed).shuffle(numbers)
    rows = ({"prompt": f"After {number} comes ", "completion": str(number + 1)} for number in numbers)
    return rows if kind == "demonstrations" else ({"prompt": row["prompt"]} for row in rows)
