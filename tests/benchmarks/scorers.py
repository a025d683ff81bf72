"""Which reward model reads best for the same FLOPs: a ratio of likelihoods, or a head on the last token?

    python tests/benchmarks/scorers.py 0 1 2 > scorers.json

Worlds of Tinytown; all but world 0 must have been built (`zoo tinytown build --world 1`). In each world and for each of
three seeds, every scorer trains on the same 1,000 labels at each learning rate for as many FLOPs as two passes of the
ratio cost. A rate is chosen on one half of unseen pairs, by the mean of the seeds; the accuracy is that on the other
half. About half an hour of one core a world.
"""

import json
import sys
from statistics import mean, stdev

import torch
from zoo_tinytown.references import base_directory
from zoo_tinytown_gold.gates import Gates
from zoo_tinytown_gold.models import session_for, trained
from zoo_tinytown_gold.world import get_world

from zoo_core.models.copies import copied
from zoo_core.models.scorer import Scorer
from zoo_core.rows import Preference

LABELS = 1000
RATES = (3e-4, 1e-3, 3e-3)
SEEDS = (0, 1, 2)
SCORERS = ("log-ratio", "last-token")


def fitted(gates: Gates, seed: int, budget: float | None, **settings: object) -> tuple[Scorer, int]:
    """Return a reward model after the stage of a bench with a budget in FLOPs, or without one, and its FLOPs."""
    pairs = [
        Preference(row["prompt"], row["chosen"], row["rejected"], f"pair {number}")
        for number, row in enumerate(gates.labelled[:LABELS])
    ]
    session = session_for(gates.base, {"preferences": pairs}, seed, copied(gates.start))
    session.budget = budget or session.budget
    for _ in trained("reward-model", session, settings):
        pass
    return Scorer(session.kept["reward"].eval(), session.encoder.tokenizer), session.ledger.flops


def compare(number: int) -> dict[str, object]:
    """Return what each scorer reaches in a world."""
    gates = Gates(get_world(number), base_directory(number))
    unseen = gates.unseen_pairs()
    half = len(unseen) // 2
    _, budget = fitted(gates, 0, None)
    found: dict[str, object] = {"world": number, "flops": budget, "pairs": len(unseen) - half}
    for scorer in SCORERS:
        of_rate = {}
        for rate in RATES:
            rewards = [fitted(gates, seed, budget, epochs=None, scorer=scorer, learning_rate=rate)[0] for seed in SEEDS]
            chosen = mean(gates.accuracy(reward, unseen[:half]) for reward in rewards)
            of_rate[rate] = chosen, [gates.accuracy(reward, unseen[half:]) for reward in rewards]
        rate, (_, told) = max(of_rate.items(), key=lambda one: one[1][0])
        error = stdev(told) / len(SEEDS) ** 0.5
        found[scorer] = {"learning_rate": rate, "accuracy": mean(told), "standard_error": error}
    return found


def main() -> None:
    """Print a line of JSON for each world."""
    torch.set_num_threads(1)
    for number in map(int, sys.argv[1:]):
        print(json.dumps(compare(number)), flush=True)


if __name__ == "__main__":
    main()
