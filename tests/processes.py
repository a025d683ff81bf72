"""Trains tiny models and writes down what happened: started by test_parallel.py, in one process or in several.

torchrun --nproc_per_node 2 tests/processes.py OUTPUT CASE ...
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from torch import distributed as dist
from torch.optim import AdamW

from zoo_core.compute.micro_batches import save_memory
from zoo_core.compute.precision import compute_in, keep_frozen, keep_frozen_in
from zoo_core.compute.processes import accelerator
from zoo_core.compute.sharding import full_tensor, local_shard, prepare_model
from zoo_core.errors import ModelError
from zoo_core.models.causal_judge import CausalJudge
from zoo_core.models.lora import add_adapter, merged_weights
from zoo_core.registry.plugins import plugins
from zoo_core.reward import Sample
from zoo_core.rollout import response_logprobs
from zoo_core.run import Run
from zoo_core.session.session import Session
from zoo_core.testing.tiny import tiny_policy, tiny_session, tiny_tokenizer

SETTINGS: dict[str, dict[str, Any]] = {
    "sft": {"batch_size": 5},
    "dpo": {"batch_size": 5},
    "reward-model": {"batch_size": 5},
    "ppo": {"batch_size": 6, "minibatch_size": 3, "epochs": 2},
    "coreset": {"at_least": 12, "regions": 3, "batch_size": 8},
    "grpo": {"batch_size": 12, "group_size": 4, "minibatch_size": 6},
}


def session(name: str, adapted: bool = False, **settings: Any) -> Session:
    """Return a session for an algorithm; its policy, with or without an adapter, is placed as a loaded one would be."""
    signals = plugins().algorithm(name).learns_from
    policy = tiny_policy().train()
    if adapted:
        torch.manual_seed(0)
        add_adapter(policy, "policy", 2)
    return tiny_session(signals, policy=prepare_model(keep_frozen(policy)), **settings)


def training(name: str, at: Session, **settings: Any) -> Iterator[dict[str, float]]:
    """Start an algorithm."""
    record = plugins().algorithm(name)
    config = record.load_config()(**{**SETTINGS[name], "learning_rate": 3e-3, **settings})
    return iter(record.load_train()(config, Run(at)))


def told(name: str, at: Session, history: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Return what is compared: metrics, weights, the part of them that is here, ledger."""
    at.ledger.gather()
    made = at.kept[plugins().algorithm(name).makes]
    here, everywhere = (
        sum(map(torch.numel, weights)) for weights in (map(local_shard, made.parameters()), made.parameters())
    )
    return {
        "history": list(history),
        "merged": {path: weight.flatten().tolist() for path, weight in merged_weights(made).items()},
        "weights": {path: full_tensor(weight.detach()).flatten().tolist() for path, weight in made.named_parameters()},
        "share": here / everywhere,
        "halves": sum(weight.numel() for weight in made.parameters() if weight.dtype == torch.bfloat16) / everywhere,
        "ledger": at.ledger.report(),
    }


def train(
    name: str,
    updates: int = 3,
    directory: str | None = None,
    memory: dict[str, Any] | None = None,
    adapted: bool = False,
    weights: Literal["fp32", "bf16"] = "fp32",
    **settings: Any,
) -> dict[str, Any]:
    """Make a few updates, from a checkpoint if there is one; it ends up behind all of them but the last."""
    compute_in(weights)
    keep_frozen_in(weights)
    at = session(name, adapted, directory=Path(directory) if directory else None)
    save_memory(**memory or {})
    try:
        return told(name, at, list(islice(training(name, at, **settings), updates)))
    finally:
        save_memory()
        compute_in("fp32")
        keep_frozen_in("fp32")


def spend(name: str, budget: float) -> dict[str, Any]:
    """Train until the budget is spent."""
    at = session(name, budget=budget)
    return told(name, at, list(training(name, at)))


def dearer(budget: float) -> dict[str, Any]:
    """Train with updates that cost twice as much each time, so that the last one is undone."""
    at = session("sft", budget=budget)
    run = Run(at)
    optimizer = run.keep("optimizer", AdamW(run.policy.parameters(), lr=3e-3))
    history = []
    for update in run.updates():
        batch = run.demonstrations.batch(update, 4)
        loss = response_logprobs(run.policy, batch).sum().neg()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.declare("more", 10**7 * 2**update)
        history.append({"loss": loss.item()})
    return told("sft", at, history)


def moody(name: str) -> dict[str, Any]:
    """Train on a reward that each process would answer in its own way."""

    def reward(samples: Sequence[Sample]) -> list[float]:
        return [float(os.getpid() % 1000 + number % 3) for number, _ in enumerate(samples)]

    at = session(name, reward=reward)
    return told(name, at, [next(training(name, at))])


def refused(name: str, memory: dict[str, Any] | None = None, **settings: Any) -> str:
    """Say why it cannot be trained so."""
    save_memory(**memory or {})
    try:
        next(training(name, session(name), **settings))
    except ModelError as error:
        return str(error)
    finally:
        save_memory()
    return ""


def judged() -> dict[str, Any]:
    """Ask a language model: for one word, for several, and for a text."""
    judge = CausalJudge(prepare_model(tiny_policy()), tiny_tokenizer())
    questions = ["which", "which of the two", "who"]
    return {
        "word": judge.verdicts(questions, ["a", "b"]),
        "words": judge.verdicts(questions, ["ab", "b"]),
        "text": [one.text for one in judge.write(questions, 5, 1.0, seed=3)],
    }


CASES: dict[str, Callable[..., Any]] = {
    "train": train,
    "spend": spend,
    "dearer": dearer,
    "moody": moody,
    "refused": refused,
    "judged": judged,
}


def do(case: str) -> Any:
    """Do a case: a JSON object of its kind, perhaps an algorithm, and settings."""
    settings = json.loads(case)
    return CASES[settings.pop("kind")](**settings)


def main(output: str, *cases: str) -> None:
    """Do the cases; every process writes what it saw."""
    accelerator()
    found = {case: do(case) for case in cases}
    Path(f"{output}.{dist.get_rank()}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
