"""Does each algorithm improve its own objective? Checks the rows of a finished bench, seed by seed.

usage: python tests/objectives.py zoo-runs/quick

- an algorithm that learns from demonstrations: its loss on demonstrations that no run was given, against `start`;
- from preferences: its preference loss on pairs that no run was given, with `start` as reference (ln 2 at `start`);
- from a reward: the proxy reward of its responses to test prompts at temperature 1, against `start`'s.

Whether gold improves is a result and is not asked here. Exits with 1 if any seed of any row fails.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from zoo_harness.spec import Spec
from zoo_harness.work import LIMITS, Materials

from zoo_core.data import Demonstration, Preference, load_rows
from zoo_core.functional import masked_mean, masked_sum
from zoo_core.models import load_policy
from zoo_core.rollout import Responses, response_logprobs

ROWS = 256
BETA = 0.1


def main(folder: Path) -> int:
    """Print a line per row and seed; return the number of failures."""
    bench = json.loads((folder / "bench.json").read_text())
    records = [json.loads(path.read_text()) for path in sorted((folder / "records").glob("*.json"))]
    starts = {record["seed"]: record for record in records if record["row"] == "start"}
    failures = 0
    for record in records:
        if record["kind"] != "algorithm":
            continue
        what, before, after, better = judge(folder, Spec(**bench["spec"]), record, starts[record["seed"]])
        failures += not better
        verdict = "ok" if better else "NOT BETTER"
        print(f"{record['row']:12} seed {record['seed']}  {what:34} {before:9.4f} -> {after:9.4f}  {verdict}")
    return failures


def judge(folder: Path, spec: Spec, record: dict[str, Any], start: dict[str, Any]) -> tuple[str, float, float, bool]:
    """Return what was measured, its value for `start` and for the row, and whether the row is better."""
    if "reward" in record["learns_from"]:
        before, after = (one["scores"]["by_temperature"]["1"]["proxy"] for one in (start, record))
        return "proxy at temperature 1", before, after, after > before
    seed, kind = record["seed"], record["learns_from"][0]
    job = json.loads((folder / "cells" / f"{record['row']}-seed{seed}" / "job.json").read_text())
    policy = load_policy(Path(job["directory"]) / "final").eval()
    reference = load_policy(start_directory(folder, seed)).eval()
    encoder = Materials(spec).encoder
    rows = load_rows(getattr(spec, kind), kind, seed)[getattr(spec.limits, LIMITS[kind]) :][:ROWS]
    rows = [row for row in rows if encoder.fits(row.prompt, row.where)]
    if kind == "demonstrations":
        batch = encoder.responses([(row.prompt, row.completion) for row in rows if isinstance(row, Demonstration)])
        before, after = nll(reference, batch), nll(policy, batch)
        return "loss on unseen demonstrations", before, after, after < before
    pairs = [row for row in rows if isinstance(row, Preference)]
    margin = [
        log_ratio(policy, reference, encoder.responses([(row.prompt, getattr(row, side)) for row in pairs]))
        for side in ("chosen", "rejected")
    ]
    after = -torch.nn.functional.logsigmoid(BETA * (margin[0] - margin[1])).mean().item()
    return "preference loss on unseen pairs", math.log(2), after, after < math.log(2)


def start_directory(folder: Path, seed: int) -> Path:
    """Where the start of a seed stands."""
    job = json.loads((folder / "scores" / f"start-seed{seed}" / "job.json").read_text())
    return Path(job["payload"]["start"])


@torch.no_grad()
def nll(model: PreTrainedModel, batch: Responses) -> float:
    """Token mean of the negative log-likelihood."""
    return -masked_mean(response_logprobs(model, batch), batch.mask).item()


@torch.no_grad()
def log_ratio(policy: PreTrainedModel, reference: PreTrainedModel, batch: Responses) -> torch.Tensor:
    """Sequence log-ratio."""
    return masked_sum(response_logprobs(policy, batch) - response_logprobs(reference, batch), batch.mask)


if __name__ == "__main__":
    sys.exit(min(1, main(Path(sys.argv[1]))))
