"""One update of the zoo beside one of TRL 1.16, in turns: zoo, TRL, zoo, TRL.

    trainings.py [--rows sft reward ...] [--sizes small large] [--tiny] [--python PYTHON-WITH-TRL]

A block is a new training: warm-up updates and timed ones (rows.py). TRL is measured with each of its settings that
could be its best. A setting that fails is noted and does not end the comparison.
"""

import statistics
from collections import defaultdict
from typing import Any

from results import Results, arguments
from rows import NAMES, SAMPLE, WAYS
from serving import Side, most_held, sides

PART = "trainings"
BLOCKS = 2
SLOW = 3.0
SAME, SAMPLED = 0.001, 0.005
"""By how much the tokens of both sides may differ; of those that sample, because no length is given."""


def compared(zoo: Side, trl: Side, name: str) -> dict[str, Any]:
    """Return what was measured of a row, by side."""
    blocks: dict[str, list[dict[str, Any]]] = defaultdict(list)
    failed: dict[str, str] = {}
    for _ in range(BLOCKS):
        ours = zoo.ask("block", name=name)
        if "error" in ours:
            return ours
        blocks["zoo"].append(ours)
        for way in WAYS[name.split()[0]]:
            if way in failed:
                continue
            theirs = trl.ask("block", name=name, way=way, order=ours["order"])
            if "error" in theirs:
                failed[way] = theirs["error"].strip().splitlines()[-1]
                print(f"{name}: TRL with {way} failed, left out:\n{theirs['error'][-1500:]}", flush=True)
            else:
                blocks[way].append(theirs)
        failed |= slow(blocks)
    found: dict[str, Any] = {side: together(some) for side, some in blocks.items()}
    tokens = found["zoo"]["tokens"]
    limit = SAMPLED if name.split()[0] in SAMPLE else SAME
    for side, one in found.items():
        off = one["tokens"] / tokens - 1
        one["same_tokens"] = abs(off) <= limit
        print(f"{name}, {side}: {one['tokens']:.0f} tokens an update, {off:+.4%} of the zoo's", flush=True)
    return {**found, "failed": failed} if failed else found


def slow(blocks: dict[str, list[dict[str, Any]]]) -> dict[str, str]:
    """Return the ways of TRL that take over three times as long as its best, which are not measured twice."""
    medians = {way: statistics.median(some[0]["seconds"]) for way, some in blocks.items() if way != "zoo"}
    return {
        way: f"one block only, as it is slow: {seconds:.3g} s"
        for way, seconds in medians.items()
        if seconds > SLOW * min(medians.values())
    }


def together(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one result of several blocks."""
    seconds = [one for block in blocks for one in block["seconds"]]
    found = {name: value for name, value in blocks[-1].items() if name not in ("order", "seconds", "flops")}
    found |= {"median": statistics.median(seconds), "least": min(seconds), "most": max(seconds), "timed": len(seconds)}
    found["by_block"] = [statistics.median(block["seconds"]) for block in blocks]
    found["gigabytes"] = most_held(blocks)
    if "flops" in blocks[0]:
        flops = [one for block in blocks for one in block["flops"]]
        found["flops_a_second"] = statistics.median(f / s for f, s in zip(flops, seconds, strict=True))
    return found


def main() -> None:
    """Measure all rows that are asked for and not known."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--sizes", nargs="+", choices=("small", "large"), default=("small", "large"))
    given = parser.parse_args()
    results = Results(given.tiny)
    names = [f"{row} {size}" for size in given.sizes for row in given.rows]
    with sides(given.python, given.tiny) as (zoo, trl):
        results.through("peak", ["bf16"], given.minutes, lambda _: zoo.ask("peak"))
        results.through(PART, names, given.minutes, lambda name: compared(zoo, trl, name))


if __name__ == "__main__":
    main()
