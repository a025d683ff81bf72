"""Measure the memory that PPO takes in each arrangement of its models, with a random Llama of 26 M parameters.

    python tests/benchmarks/memory.py

Each arrangement is a process of its own, whose highest resident memory is compared with that of one that imports the
same and trains nothing. What the ledger counts (weights; weights, gradients and states of the optimizer) stands beside.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import peft  # noqa: F401  # imported late by the core; here it belongs to what every process imports
import torch
from measure import apart, peak_bytes
from zoo_ppo.config import PPOConfig
from zoo_ppo.train import train

from zoo_core.models.copies import scorer_from
from zoo_core.models.lora import add_adapter
from zoo_core.models.scorer import Scorer
from zoo_core.run import Run
from zoo_core.testing.tiny import tiny_encoder, tiny_policy, tiny_session, tiny_tokenizer

SHAPE = {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8, "num_attention_heads": 8}
UPDATES = 3
NOTHING = "imports"
ROWS: dict[str, dict[str, Any]] = {
    "separate": {},
    "hydra": {"models": "hydra", "unfrozen_layers": 2},
    "lora": {"models": "lora", "lora_rank": 8},
}


def measure(name: str) -> dict[str, float]:
    """Train for a few updates in this process; return what the ledger and the operating system say."""
    torch.set_num_threads(1)
    if name == NOTHING:
        return {"peak": peak_bytes()}
    policy = tiny_policy(**SHAPE)
    scorer = scorer_from(policy, seed=0)
    if name == "lora":  # the reward model is an adapter on the same base, too
        add_adapter(scorer, "reward", rank=8)
    reward = Scorer(scorer.eval().requires_grad_(False), tiny_tokenizer())
    session = tiny_session(["prompts", "reward"], policy=policy, encoder=tiny_encoder(16), reward=reward)
    config = PPOConfig(batch_size=8, minibatch_size=4, **ROWS[name])
    training = train(config, Run(session))
    next(training)  # the first update is audited, which takes longer
    began = time.perf_counter()
    for _ in range(UPDATES - 1):
        next(training)
    seconds = (time.perf_counter() - began) / (UPDATES - 1)
    next(training)
    report = session.ledger.report()
    names = ("models_resident", "parameter_bytes", "training_bytes")
    return {"peak": peak_bytes(), "seconds": seconds, **{name: report[name] for name in names}}


def main() -> None:
    """Print the table."""
    nothing, *found_of_rows = [apart(Path(__file__), name) for name in (NOTHING, *ROWS)]
    print("| models | resident | weights | with gradients and AdamW | measured peak | seconds an update |")
    print("|---|---|---|---|---|---|")
    for name, found in zip(ROWS, found_of_rows, strict=True):
        weights, training, highest = (
            f"{some / 2**20:.0f} MiB"
            for some in (found["parameter_bytes"], found["training_bytes"], found["peak"] - nothing["peak"])
        )
        cells = (f"`{name}`", found["models_resident"], weights, training, highest, f"{found['seconds']:.1f}")
        print("| " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
    else:
        main()
