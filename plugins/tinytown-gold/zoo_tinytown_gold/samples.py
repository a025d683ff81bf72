"""Pairs of samples of a seed's `start`, which annotators label beside those of writers.

Making them takes a minute: they are kept, under the hash of all that they are made from. Those of world 0's first seeds
come with this package.
"""

import hashlib
import json
import sys
from itertools import islice
from pathlib import Path

from zoo_tinytown.plugin import zoo_load_model
from zoo_tinytown.references import AS_THEY_ARE, Dials, cache

from zoo_core.registry.plugins import plugins
from zoo_core.storage.atomic import write_rows
from zoo_tinytown_gold.requests import prompts
from zoo_tinytown_gold.rows import PREFERENCES, Pair, demonstrations
from zoo_tinytown_gold.world import World

SEEN = 2000
"""The demonstrations of a seed that its `start` has seen once."""
TRIES = 8
"""Samples to a prompt before writers answer it, because no two of them differ or have any text."""
WITH_THE_PACKAGE = Path(__file__).parent / "samples"


def start_pairs(world: World, seed: int, dials: Dials = AS_THEY_ARE) -> list[Pair | None]:
    """Return two different samples of the seed's `start` to every second prompt of its pool; None where there are none.

    Raises `ModelError` if the base of the world is not built.
    """
    name = f"{world.number}-{seed}-{_identity(world, seed, dials)}.jsonl"
    found = next((file for file in (WITH_THE_PACKAGE / name, cache() / "samples" / name) if file.is_file()), None)
    if found is None:
        found = cache() / "samples" / name
        write(world, seed, dials, found)
    rows = [json.loads(line)["answers"] for line in found.read_text().splitlines()]
    return [(texts[0], texts[1]) if len(texts) == 2 else None for texts in rows]


def write(world: World, seed: int, dials: Dials, file: Path) -> None:
    """Train the seed's `start`, sample the pairs and write them to a file."""
    print(f"World {world.number}: sampling the pairs of seed {seed} from its start, once.", file=sys.stderr)
    from zoo_tinytown_gold.models import answers, fine_tuned

    base = _base(world)
    start = fine_tuned(base, islice(demonstrations(world, seed, dials), SEEN), seed)
    asked = [text for _, text in islice(prompts(world, "train", seed), 0, PREFERENCES, 2)]
    found: list[list[str]] = [[] for _ in asked]
    for attempt in range(TRIES):
        missing = [place for place, texts in enumerate(found) if len(texts) < 2]
        for place, sample in zip(
            missing, answers(start, base, [asked[place] for place in missing], 1.0, attempt), strict=True
        ):
            if sample.response.strip() and sample.response not in found[place]:
                found[place].append(sample.response)
    write_rows(file, [{"answers": texts} for texts in found])


def _identity(world: World, seed: int, dials: Dials) -> str:
    """Hash what the samples are made from: the base, the demonstrations, the prompts, and how they are learnt."""
    made_from = (
        hashlib.sha256((_base(world) / "model.safetensors").read_bytes()).hexdigest(),
        list(islice(demonstrations(world, seed, dials), SEEN)),
        [text for _, text in islice(prompts(world, "train", seed), PREFERENCES)],
        plugins().algorithm("sft").stage,
    )
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:16]


def _base(world: World) -> Path:
    directory = zoo_load_model(f"tinytown/{world.number}:base")
    assert directory is not None
    return directory
