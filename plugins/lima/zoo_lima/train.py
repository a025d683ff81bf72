"""The training loop of LIMA.

Before the loop the demonstrations are sifted and a few of many kinds are drawn; each update raises the likelihood of a
batch of these. How rows are selected is in selection.py; the loss is that of supervised fine-tuning.
"""

import math
from collections.abc import Iterator

import torch
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from zoo_sft.loss import sft_loss

from zoo_core.errors import DataError
from zoo_core.rollout import response_logprobs
from zoo_core.rows import Demonstration, Text
from zoo_core.run import Run
from zoo_lima.config import LIMAConfig
from zoo_lima.dropout import residual_dropout
from zoo_lima.selection import Pair, find_kinds, quotas, sift


def train(config: LIMAConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place; yield metrics once per update."""
    if config.selection == "random":
        rows = run.demonstrations.drawn(config.rows, run.rng(0, "random rows"))
    else:
        rows = select_curated(config, run)
    selected = run.demonstrations.only(rows)
    parameters = run.policy.parameters()
    optimizer = run.keep(
        "optimizer", AdamW(parameters, betas=(0.9, 0.95), weight_decay=config.weight_decay, fused=True)
    )
    most = math.ceil(config.epochs * selected.epoch(config.batch_size))

    for update in run.updates(most):
        batch = selected.batch(update, config.batch_size)
        optimizer.zero_grad()
        with residual_dropout(run.policy, config.dropout):
            loss = sft_loss(response_logprobs(run.policy, batch), batch.mask)
            loss.backward()

        # By the count of updates it would be just short of 1 in the last of them.
        progress = max(update / max(1, most - 1), run.progress)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * (1.0 - 0.9 * progress)
        gradient_norm = clip_grad_norm_(run.policy.parameters(), config.max_grad_norm)
        optimizer.step()

        yield {
            "loss": loss.item(),
            "gradient_norm": gradient_norm.item(),
            "passes": (update + 1) * config.batch_size / len(selected),
        }


def select_curated(config: LIMAConfig, run: Run) -> list[Demonstration]:
    """Return rows of many kinds that break no rule; write files with the reason for each, and with rejected rows."""
    rows = run.demonstrations.all()
    kept, rejected = sift(
        [Pair(plain(row.prompt), plain(row.completion)) for row in rows], config.shortest, config.longest
    )
    if not kept:
        counts = ", ".join(f"{name}: {len(broken)}" for name, broken in rejected.items() if broken)
        raise DataError(
            f"none of the {len(rows)} demonstrations passes LIMA's rules ({counts}); set selection: random."
        )
    generator = run.rng(0, "selection")
    seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
    kinds = find_kinds([plain(rows[row].prompt) for row in kept], config.kinds, seed)
    run.declare("selection", kinds.flops)

    members = [
        [row for row, label in zip(kept, kinds.labels, strict=True) if label == kind]
        for kind in range(len(kinds.names))
    ]
    quota = quotas(list(map(len, members)), config.rows, config.temperature)
    chosen = []
    for kind, (row_numbers, count) in enumerate(zip(members, quota, strict=True)):
        order = torch.randperm(len(row_numbers), generator=generator, device=generator.device)
        reason = f"breaks no rule; one of {count} drawn of {len(row_numbers)} of kind {kind}: {kinds.names[kind]}"
        chosen += [(rows[row_numbers[place]], reason) for place in order[:count].tolist()]

    run.write_rows(
        "selected",
        [
            {"prompt": row.prompt, "completion": row.completion, "where": row.where, "reason": reason}
            for row, reason in chosen
        ],
    )
    run.write_rows(
        "rejected",
        [
            {"rule": name, "rows": len(broken), "where": [rows[row].where for row in broken]}
            for name, broken in rejected.items()
        ],
    )
    return [row for row, _ in chosen]


def plain(text: Text) -> str:
    """Return a text, or the contents of all messages of a conversation, as one string."""
    return text if isinstance(text, str) else "\n".join(message["content"] for message in text)
