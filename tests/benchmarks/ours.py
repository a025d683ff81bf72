"""One process of the comparison with TRL: an algorithm's own loop, driven through `Run` as a cell of a bench drives it.

    python tests/benchmarks/ours.py ALGORITHM ROWS UPDATES [BASE]

Prints one line of JSON (see measure.py) with the lines of ROWS that each update took, in their order: theirs.py is
given the same. ALGORITHM is one of `ALGORITHMS`; BASE is a model's directory, or a size such as 25M.
"""

import os
import sys
from pathlib import Path

import torch
from materials import BASE, SHAPES, length, llama, read_pairs, scorer_of, session
from measure import Clock
from zoo_harness.jobs.worker import repeat_bits

from zoo_core.models.loading import load_policy
from zoo_core.registry.plugins import plugins
from zoo_core.run import Run

STEADY = {"learning_rate": 1e-6}
"""As on the other side: responses stay as long as they are."""
ALGORITHMS = {
    "sft": ("sft", {"batch_size": 16}),
    "reward": ("reward-model", {"batch_size": 16, "scorer": "last-token"}),
    "dpo": ("dpo", {"batch_size": 16}),
    "grpo": ("grpo", {"batch_size": 64, "group_size": 4, "minibatch_size": 64}),
    "rloo": ("rloo", {"batch_size": 64, "samples_per_prompt": 4}),
    "ppo": ("ppo", {"batch_size": 64, "minibatch_size": 64, "epochs": 4}),
    "ppo-hydra": ("ppo", {"batch_size": 64, "minibatch_size": 64, "epochs": 4, "models": "hydra"}),
}
"""Plugin and settings by the name of a row."""
DRAWN = {"grpo": 16, "rloo": 16, "ppo": 64, "ppo-hydra": 64}
"""Prompts of an update."""


def main(name: str, rows: Path, updates: int, base: str = str(BASE)) -> None:
    """Train for so many updates."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    repeat_bits()  # as a cell does
    algorithm, settings = ALGORITHMS[name]
    record = plugins().algorithm(algorithm)
    train, config = record.load_train(), record.load_config()(**settings, **STEADY)
    clock = Clock()
    policy = llama(base) if base in SHAPES else load_policy(Path(base))
    reward = scorer_of(policy) if algorithm == "ppo" else length
    one = session(policy, record.learns_from, read_pairs(rows), reward)
    run = Run(one)
    sampled = []
    training = train(config, run)
    for _ in range(updates):
        sampled.append(next(training).get("length", 0.0))
        clock.stamp()
    # Batches are pure functions of their number, so what was read can be asked for once more.
    if name in DRAWN:
        feed, size = run.prompts, DRAWN[name]
        tokens = [
            run.prompts.batch(update, size).attention.sum().item() * config.batch_size / size
            + sampled[update] * config.batch_size
            for update in range(updates)
        ]
    else:
        feed, size = run.demonstrations if algorithm == "sft" else run.preferences, config.batch_size
        tokens = [feed.batch(update, size).attention.sum().item() for update in range(updates)]
    clock.report(
        tokens=sum(tokens) / updates,
        length=sum(sampled) / updates or None,
        flops=one.ledger.flops / updates,
        order=[int(row.where) for update in range(updates) for row in feed.take(update, size)],
    )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
