"""The training loop of fine-tuning on a core set.

Before the loop, the demonstrations are embedded and a few of them are selected (selection.py). The loop is supervised
fine-tuning on these.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from zoo_sft.config import SFTConfig
from zoo_sft.train import imitate

from zoo_core.rollout import text_states
from zoo_core.rows import Demonstration, canonical
from zoo_core.run import Run
from zoo_coreset.config import CoresetConfig
from zoo_coreset.selection import core_set, embed, find_regions


def train(config: CoresetConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place; yield metrics once per update."""
    total = min(len(run.demonstrations), max(config.at_least, round(config.share * len(run.demonstrations))))
    if config.selection == "random":
        rows = run.demonstrations.drawn(total, run.rng(0, "random rows"))
    else:
        rows = select_coreset(config, run, total)
    selected = run.demonstrations.only(rows)
    settings = SFTConfig(
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        epochs=config.epochs,
        max_grad_norm=config.max_grad_norm,
    )
    for metrics in imitate(settings, run, selected):
        yield {**metrics, "passes": (run.update + 1) * config.batch_size / len(selected)}


def select_coreset(config: CoresetConfig, run: Run, total: int) -> list[Demonstration]:
    """Return the core set of the demonstrations; write a file with the reason for each row."""
    # Rows that say the same are one: only the first of them could ever be picked.
    rows = list({canonical(row): row for row in reversed(run.demonstrations.all())}.values())[::-1]
    points = embeddings(run, rows, config.batch_size)
    seed = int(torch.randint(2**31, (), generator=run.rng(0, "regions"), device=run.device))
    regions = find_regions(points, config.regions, seed)
    picks = core_set(points, regions.labels, min(total, len(rows)))

    sizes, picked = Counter(regions.labels.tolist()), Counter(pick.region for pick in picks)
    greedy = sum(3 * points.shape[1] * sizes[region] * picked[region] for region in sizes)
    run.declare("selection", regions.flops + greedy)
    run.write_rows(
        "selected",
        [
            {
                "where": rows[pick.row].where,
                "prompt": rows[pick.row].prompt,
                "completion": rows[pick.row].completion,
                "reason": f"region {pick.region} ({picked[pick.region]} of {sizes[pick.region]} rows): "
                + (
                    "the nearest to its centre"
                    if pick.distance is None
                    else f"{pick.distance:.4f} from the nearest row picked before, the farthest of all"
                ),
            }
            for pick in picks
        ],
    )
    return [rows[pick.row] for pick in picks]


@torch.no_grad()
def embeddings(run: Run, rows: Sequence[Demonstration], batch_size: int) -> Float[Tensor, "N D"]:
    """Return embeddings of rows, prompt and answer, by the policy before training."""
    batches = []
    for first in range(0, len(rows), batch_size):
        texts = run.encode([(row.prompt, row.completion) for row in rows[first : first + batch_size]])
        batches.append(embed(*text_states(run.policy.base_model, texts)).cpu())
    return torch.cat(batches)
