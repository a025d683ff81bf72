"""Sampling with the zoo beside transformers: `generate` as TRL calls it, with bf16 weights, and continuous batching.

    sampling.py [--tiny] [--python PYTHON-WITH-TRL]

In turns, on the same prompts of at most 96 tokens, temperature 1 without top-k or top-p. The model is random, so hardly
any row ends before its last token.
"""

import statistics
from collections import defaultdict
from typing import Any

from results import Results, arguments
from rows import AUTOCAST, CONTINUOUS, HALF
from serving import Side, most_held, sides

PART = "sampling"
SIZES = {"64 x 64": (64, 64), "256 x 64": (256, 64), "256 x 256": (256, 256)}
TINY = {"8 x 16": (8, 16)}
BLOCKS, TURNS = 2, 2
"""Repetitions in turns, and timed ones of each; one more before them is not timed."""


def compared(zoo: Side, trl: Side, rows: int, tokens: int) -> dict[str, Any]:
    """Return milliseconds a step, tokens a second and memory, by side."""
    blocks: dict[str, list[dict[str, Any]]] = defaultdict(list)
    failed: dict[str, str] = {}
    for _ in range(BLOCKS):
        ours = zoo.ask("sample", rows=rows, tokens=tokens, turns=3 * TURNS)
        if "error" in ours:
            return ours
        blocks["zoo"].append(ours)
        for way in (AUTOCAST, HALF, CONTINUOUS):
            theirs = {} if way in failed else trl.ask("sample", way=way, rows=rows, tokens=tokens, turns=TURNS)
            if "error" in theirs:
                failed[way] = theirs["error"].strip().splitlines()[-1]
                print(f"{rows} x {tokens}: {way} failed, left out:\n{theirs['error']}", flush=True)
            elif theirs:
                blocks[way].append(theirs)
    found: dict[str, Any] = {side: together(some) for side, some in blocks.items() if side not in failed}
    return {**found, "failed": failed} if failed else found


def together(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one result of several blocks."""
    turns = [one for block in blocks for one in zip(block["seconds"], block["steps"], block["tokens"], strict=True)]
    lists = ("seconds", "steps", "tokens")
    found = {name: value for name, value in blocks[-1].items() if name not in lists}
    found["ms_a_step"] = statistics.median(1000 * seconds / steps for seconds, steps, _ in turns)
    found["tokens_a_second"] = statistics.median(tokens / seconds for seconds, _, tokens in turns)
    found["slowest"] = min(tokens / seconds for seconds, _, tokens in turns)
    return found | {"gigabytes": most_held(blocks)}


def main() -> None:
    """Measure all sizes that are not known."""
    given = arguments(__doc__.splitlines()[0]).parse_args()
    results, sizes = Results(given.tiny), TINY if given.tiny else SIZES
    with sides(given.python, given.tiny) as (zoo, trl):
        results.through(PART, list(sizes), given.minutes, lambda name: compared(zoo, trl, *sizes[name]))


if __name__ == "__main__":
    main()
