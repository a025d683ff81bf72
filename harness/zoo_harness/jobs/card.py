"""The model card of what a training leaves: `README.md`, which the Hugging Face Hub reads.

All that users and plugins wrote stands in one block of YAML whose fence is longer than any in it: nothing there can be
markup. Of local files the card says names and hashes, not the paths of somebody's machine.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import cast

import yaml
from huggingface_hub import ModelCardData
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from zoo_core.datasets.files import HUB_ID
from zoo_core.models.log_ratio import is_log_ratio
from zoo_core.models.lora import is_apart
from zoo_core.records import Algorithm
from zoo_core.registry.plugins import plugins
from zoo_core.rows import DataRow, fingerprint
from zoo_core.storage.atomic import write_text
from zoo_harness.job import Job, read_json
from zoo_harness.jobs.choice import ledgers_of
from zoo_harness.model_folder import TAG
from zoo_harness.payloads import Training
from zoo_harness.results import Staged, Trained
from zoo_harness.spec.schema import Spec

POLICY = """from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # where this file is, or its id on the Hub
model = AutoModelForCausalLM.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)"""
SCORER = POLICY.replace("AutoModelForCausalLM", "AutoModelForSequenceClassification")
APART = """from pathlib import Path

from zoo_core.models.loading import load_scorer  # two models, or an adapter beside its base: not transformers' own

model = load_scorer(Path("."))"""


def write(
    folder: Path,
    job: Job,
    payload: Training,
    algorithm: Algorithm,
    rows: Mapping[str, Sequence[DataRow]],
    result: Trained,
) -> None:
    """Write the card of a trained model beside its weights."""
    stages = [cast(Staged, read_json(directory / "result.json") or {}) for directory in payload.stages]
    facts = {
        "algorithm": {"name": algorithm.name, "summary": algorithm.summary, "paper": algorithm.paper},
        "settings": {name: _public(value) for name, value in payload.settings.items()} or "the defaults",
        "seed": job.seed,
        **_origins(payload, algorithm, rows, stages),
        **_costs(payload, result, stages),
        "versions": _versions(algorithm, stages, result),
        "weights_sha256": result["weights_sha256"],
    }
    plain = json.loads(json.dumps(facts))  # torch's version is a text of a kind of its own, which YAML refuses
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=110)
    fence = "`" * 3
    while fence in text:
        fence += "`"
    policy, apart = algorithm.makes == "policy", is_apart(folder) or is_log_ratio(folder)
    front = ModelCardData(
        library_name=None if apart else "transformers",
        pipeline_tag="text-generation" if policy else "text-classification",
        base_model=payload.spec.base if _is_on_the_hub(payload.spec.base) else None,
        datasets=sorted(set(_datasets(payload.spec, algorithm, stages))) or None,
        tags=[TAG, algorithm.name],
    ).to_yaml()
    load = APART if apart else POLICY if policy else SCORER
    title = f"{job.row or algorithm.name}, seed {job.seed}"
    what = "A language model" if policy else "A reward model: it gives a text a score, and a higher one is better,"
    write_text(
        folder / "README.md",
        f"---\n{front}\n---\n\n# {title}\n\n{what} trained by RLHF Zoo.\n\n"
        f"## Load it\n\n```python\n{load}\n```\n\n"
        f"## What it was made from, and what that cost\n\n{fence}yaml\n{text}{fence}\n",
    )


def _origins(
    payload: Training, algorithm: Algorithm, rows: Mapping[str, Sequence[DataRow]], stages: Sequence[Staged]
) -> dict[str, object]:
    """What the training began from, and learnt from."""
    spec = payload.spec
    found: dict[str, object] = {
        "base": _public(spec.base),
        "stages": [
            {"name": stage["algorithm"], "weights_sha256": stage["weights_sha256"]} for stage in _trained(stages)
        ],
        "data": {
            kind: {"from": _public(_source(spec, kind)), "rows": len(some), "sha256": fingerprint(some)}
            for kind, some in rows.items()
        },
        "reward": _public(payload.reward) if "reward" in algorithm.learns_from else None,
        "judge": _public(spec.judge or spec.base) if "judge" in algorithm.learns_from else None,
    }
    return {name: value for name, value in found.items() if value}


def _costs(payload: Training, result: Trained, stages: Sequence[Staged]) -> dict[str, object]:
    """What the training cost, with the stages that it stands on and the trials that chose its settings."""
    trials = ledgers_of(result["choice"]["tried"]) if "choice" in result else []
    ledgers = [result["ledger"], *trials, *(stage["ledger"] for stage in stages)]
    flops: Counter[str] = Counter()
    for ledger in ledgers:
        flops.update(ledger["flops_by_role_phase"])
    labels = {
        kind: len({row for one in ledgers for row in one["rows"].get(kind, [])})
        for kind in ("demonstrations", "preferences")
    }
    return {
        "budget_flops": payload.budget or "none: a recipe of fixed length",
        "cost_with_stages": {
            "flops": sum(flops.values()),
            "flops_by_role_and_phase": dict(sorted(flops.items())),
            "labels": labels,
            "judge_calls": sum(one["judge_calls"] for one in ledgers),
            "reward_queries": sum(one["reward_queries"] for one in ledgers),
            "generated_tokens": sum(one["generated_tokens"] for one in ledgers),
            "seconds": round(sum(one["wall_seconds"] for one in ledgers), 1),
        },
        "updates": sum(one["updates"] for one in [result["ledger"], *trials]),
        "peak_memory_bytes": result["ledger"]["peak_memory_bytes"],
    }


def _versions(algorithm: Algorithm, stages: Sequence[Staged], result: Trained) -> dict[str, str]:
    """Versions of the distributions whose code took part."""
    owners = [plugins().owner("zoo_algorithms", algorithm.name)]
    owners += [plugins().owner("zoo_algorithms", stage["algorithm"]) for stage in _trained(stages)]
    own = {name: version(name) for name in ("zoo-core", "zoo-harness")}
    others = {name: result["environment"][name] for name in ("torch", "transformers", "python")}
    return {**own, **{owner.distribution: owner.version for owner in owners}, **others}


def _trained(stages: Sequence[Staged]) -> list[Trained]:
    """The stages that trained a model; others made pairs, or measured a reward."""
    return [cast(Trained, stage) for stage in stages if "algorithm" in stage]


def _source(spec: Spec, kind: str) -> str | None:
    """Where rows of a kind come from; None for pairs that the bench made itself."""
    kind = "preferences" if kind == "demonstrations" and spec.imitates_chosen else kind
    found = getattr(spec, kind)
    return found if isinstance(found, str) else None


def _datasets(spec: Spec, algorithm: Algorithm, stages: Sequence[Staged]) -> Iterator[str]:
    """Hub ids of the data sets that this training and its stages learnt from."""
    learners = [algorithm, *(plugins().algorithm(stage["algorithm"]) for stage in _trained(stages))]
    for kind in ("demonstrations", "preferences", "prompts"):
        ref = _source(spec, kind) if any(kind in learner.learns_from for learner in learners) else None
        bare = (ref or "").partition("#")[0]
        if _is_on_the_hub(bare):
            yield bare


def _is_on_the_hub(ref: str) -> bool:
    """Whether a reference can be nothing but a hub id, and is one that the Hub allows."""
    if not HUB_ID.fullmatch(ref) or Path(ref).exists():
        return False
    with suppress(ValueError):
        validate_repo_id(ref)
        return True
    return False


def _public(value: object) -> object:
    """Return a value without the path of a local file or folder: its name says enough, beside a hash."""
    if not isinstance(value, str):
        return value if value is not None else "made by the bench"
    prefix, colon, rest = value.partition(":")  # as rrhf:/home/me/run
    if colon and rest.startswith("/"):
        return f"{prefix}:{Path(rest).name}"
    return Path(value).name if value.startswith((".", "/", "~")) or Path(value).exists() else value
