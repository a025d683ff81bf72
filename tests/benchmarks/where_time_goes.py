"""Say where the time of an algorithm's update goes.

    python tests/benchmarks/where_time_goes.py ALGORITHM [BASE]

ALGORITHM and BASE are those of ours.py. Shares are of operators' own time under torch's profiler; what is left of the
wall's time is Python and the profiler itself, so the last line is an upper bound.
"""

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from functools import wraps
from pathlib import Path
from typing import Any

from materials import BASE, PROMPT_TOKENS, SHAPES, SHORT_PROMPT_TOKENS, length, llama, read_pairs, scorer_of, session
from materials import write_pairs as write
from ours import ALGORITHMS, DRAWN, STEADY
from torch.profiler import ProfilerActivity, profile, record_function

from zoo_core.models.loading import load_policy
from zoo_core.registry.plugins import plugins
from zoo_core.run import Run

UPDATES = 3
SAMPLING, REWARD = "sampling", "reward"
PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "mkldnn")
OF_LOSS = ("logsumexp", "log_softmax", "gather", "nll_loss", "cross_entropy", "scatter")
OF_OPTIMIZER = ("Optimizer.", "aten::_foreach", "aten::_fused_adam")


def category(event: Any, vocabulary: int) -> str:
    """Return what an operator belongs to, by its own name and those of the operators that called it."""
    names = [event.name, *(above.name for above in callers(event))]
    for marked in (SAMPLING, REWARD):
        if marked in names:
            return marked
    if any(name.startswith(OF_OPTIMIZER) for name in names):
        return "optimizer and clipping"
    if any("scaled_dot_product" in name or "flash_attention" in name for name in names):
        return "attention"
    if any(vocabulary in shape for shape in event.input_shapes) or any(part in event.name for part in OF_LOSS):
        return "head and loss"
    if event.name.startswith(PRODUCTS):
        return "linear layers"
    return "norms and elementwise"


def callers(event: Any) -> Iterator[Any]:
    """Yield the operators inside which another ran, innermost first."""
    while event.cpu_parent is not None:
        event = event.cpu_parent
        yield event


def marked(name: str, method: Any) -> Any:
    """Return a method whose calls the profiler shows under a name."""

    @wraps(method)
    def call(*arguments: Any, **others: Any) -> Any:
        with record_function(name):
            return method(*arguments, **others)

    return call


def main(name: str, base: str = str(BASE)) -> None:
    """Print the table of one algorithm."""
    algorithm, settings = ALGORITHMS[name]
    record = plugins().algorithm(algorithm)
    policy = llama(base) if base in SHAPES else load_policy(Path(base))
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "pairs.jsonl", SHORT_PROMPT_TOKENS if name in DRAWN else PROMPT_TOKENS)
        pairs = read_pairs(Path(folder) / "pairs.jsonl")
    run = Run(session(policy, record.learns_from, pairs, scorer_of(policy) if algorithm == "ppo" else length))
    run.sample = marked(SAMPLING, run.sample)  # type: ignore[method-assign]
    run.reward = marked(REWARD, run.reward)  # type: ignore[method-assign]
    loop = record.load_train()(record.load_config()(**settings, **STEADY), run)
    for _ in range(2):
        next(loop)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as seen:
        began = time.perf_counter()
        for _ in range(UPDATES):
            next(loop)
        wall = time.perf_counter() - began
    spent: Counter[str] = Counter()
    for event in seen.events():
        spent[category(event, policy.config.vocab_size)] += event.self_cpu_time_total / 1e6
    print(f"| {name}: part of an update | share of its time |")
    print("|---|---|")
    for part, seconds in [*spent.most_common(), ("Python and the profiler", wall - spent.total())]:
        print(f"| {part} | {seconds / wall:.1%} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
