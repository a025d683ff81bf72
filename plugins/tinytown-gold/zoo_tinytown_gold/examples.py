"""Five test prompts of a world, each with a perfect answer and a typical one of `start`, for a README."""

import sys
from collections.abc import Iterator
from itertools import islice

from zoo_tinytown.references import base_directory

from zoo_tinytown_gold.gold import Gold, request_text
from zoo_tinytown_gold.models import answers, fine_tuned
from zoo_tinytown_gold.requests import prompts
from zoo_tinytown_gold.rows import demonstrations
from zoo_tinytown_gold.samples import SEEN
from zoo_tinytown_gold.world import World, get_world, stream
from zoo_tinytown_gold.writers import write_oracle

COUNT, CANDIDATES = 5, 8


def examples(world: World) -> Iterator[str]:
    """Yield Markdown lines. Of some samples at temperature 0.5 the one in the middle by gold is typical."""
    base, gold, rng = base_directory(world.number), Gold(world), stream(world.number, "examples")
    start = fine_tuned(base, islice(demonstrations(world, 0), SEEN), 0)
    asked = list(islice(prompts(world, "test", 1), COUNT))
    draws = [answers(start, base, [text for _, text in asked], 0.5, seed=seed) for seed in range(CANDIDATES)]
    for (request, text), samples in zip(asked, zip(*draws, strict=True), strict=True):
        typical = sorted(samples, key=lambda sample: gold([sample])[0])[CANDIDATES // 2]
        assert request_text(typical.prompt) == text
        missed = [part for part, (met,) in gold.parts([typical]).items() if met < 1]
        yield f"    {text}"
        yield f"      1.00  {write_oracle(world, request, rng)}"
        yield f"      {gold([typical])[0]:.2f}  {typical.response}"
        yield f"            violates: {', '.join(missed) or 'nothing'}"


if __name__ == "__main__":
    for line in examples(get_world(int(sys.argv[1]) if sys.argv[1:] else 0)):
        print(line)
