"""The job before all others: open everything the spec names, and measure one update of every algorithm.

What is wrong with the user's input is found here, before any training; and the plan's figures are measured, not
guessed: an update's FLOPs, seconds and memory are those of a real update on the real model and data.
"""

import os
import time
from typing import Any

import psutil
import torch
from transformers import PreTrainedModel

from zoo_core.data import fingerprint
from zoo_core.encoding import Encoder
from zoo_core.errors import ModelError, SpecError
from zoo_core.hookspecs import Kind
from zoo_core.judge import load_judge
from zoo_core.models import files_sha256, load_policy, resolve, scorer_from, weights_sha256
from zoo_core.plugins import plugins
from zoo_core.records import Algorithm
from zoo_core.reward import Calibration, Reward, Sample, Scorer, checked
from zoo_core.run import Run, Session
from zoo_harness.jobs import Job
from zoo_harness.plan import package_hash
from zoo_harness.settings import configure
from zoo_harness.spec import Spec
from zoo_harness.work import Materials, environment, open_reward

UNBOUNDED = 1e30


def run(job: Job) -> dict[str, Any]:
    """Check and measure; return what the plan needs."""
    spec = Spec(**job.payload["spec"])
    materials = Materials(spec)
    base = materials.base
    encoder = materials.encoder
    materials.check_lengths()
    data = _check_data(materials, job.payload["kinds"])
    prompts = materials.texts("dev_prompts", 0, 2)
    judges = _check_judges(spec, [Sample(prompt.prompt, "an answer", True) for prompt in prompts])
    policy = load_policy(base)
    _check_special_tokens(spec.base, encoder, policy)
    parameters = sum(parameter.numel() for parameter in policy.parameters())
    costs = {}
    for key, wanted in job.payload["measure"].items():
        algorithm = plugins().algorithm(wanted["algorithm"])
        costs[key] = _measure(materials, algorithm, wanted["settings"])
    return {
        "identity": job.identity,
        "base_path": str(base),
        "base": {
            "ref": spec.base,
            "sha256": weights_sha256(base),
            "files": files_sha256(base),
            "parameters": parameters,
            "vocabulary": len(encoder.tokenizer),
        },
        "data": data,
        "judges": judges,
        "costs": costs,
        "environment": environment(),
    }


def _check_special_tokens(base: str, encoder: Encoder, policy: PreTrainedModel) -> None:
    """Raise `ModelError` if pad or EOS is the unknown token, or has no row in the embedding."""
    size: int = policy.config.vocab_size
    for name in ("pad", "eos"):
        token = getattr(encoder.tokenizer, f"{name}_token_id")
        if token >= size or token == encoder.tokenizer.unk_token_id:
            raise ModelError(
                f"{base}: the {name.upper()} token has the id {token}, which is the unknown token or beyond the "
                f"model's {size} embeddings. Add it: tokenizer.add_special_tokens(...), "
                "model.resize_token_embeddings(len(tokenizer)); save both."
            )


def _check_data(materials: Materials, kinds: list[Kind]) -> dict[str, dict[str, Any]]:
    """Read every data set for every seed; count rows and hash them."""
    data: dict[str, dict[str, Any]] = {}
    for kind in kinds:
        per_seed = [materials.rows_and_dropped(kind, seed) for seed in range(materials.spec.seeds)]
        for rows, _ in per_seed[:1]:
            for row in rows:  # the template and the tokenizer meet every text before training does
                for name in ("completion", "chosen", "rejected"):
                    if hasattr(row, name):
                        materials.encoder.response(row.prompt, getattr(row, name), row.where)
        data[kind] = {
            "rows": [len(rows) for rows, _ in per_seed],
            "dropped": [dropped for _, dropped in per_seed],
            "sha256": [fingerprint(rows) for rows, _ in per_seed],
        }
    return data


def _check_judges(spec: Spec, trial: list[Sample]) -> dict[str, str]:
    """Open gold, reward and tasks; return a hash of each: results of an older judge must not pass for new ones."""
    found = {}
    for key in ("gold", "reward"):
        ref = getattr(spec, key)
        if ref and ref != "preferences":
            try:
                judge = open_reward(ref, None)
                checked(judge, trial)
                found[key] = files_sha256(resolve(ref)) if isinstance(judge, Scorer) else _code_of(judge)
            except SpecError as error:
                raise SpecError(f"{key}: {error}") from None
    if spec.tasks:
        from zoo_harness.lmeval import load_tasks, task_hash

        found |= {f"task {name}": task_hash(task) for name, task in load_tasks(spec.tasks).items()}
    return found


def _code_of(reward: Reward) -> str:
    """Hash of the code that a function or a plugin's reward stands in."""
    module = getattr(reward, "__module__", None) or type(reward).__module__
    return package_hash(module.partition(".")[0])


def _measure(materials: Materials, algorithm: Algorithm, settings: dict[str, Any]) -> dict[str, Any]:
    """Run one update from the base model; its cost does not depend on the weights it starts from."""
    policy = load_policy(materials.base).train()
    rewarded = "reward" in algorithm.learns_from
    reward: Reward | None = None
    if rewarded and materials.spec.reward == "preferences":
        reward = Scorer(scorer_from(policy, 0).eval().requires_grad_(False), materials.encoder.tokenizer)
    elif rewarded:
        reward = open_reward(materials.spec.reward, None)
    session = Session(
        policy=policy,
        encoder=materials.encoder,
        seed=0,
        budget=UNBOUNDED,
        rows=materials.signals(algorithm.learns_from, 0),
        reward=reward,
        calibration=Calibration(0.0, 1.0) if rewarded else None,
        judge=load_judge(materials.spec.judge or materials.spec.base) if "judge" in algorithm.learns_from else None,
        engine=materials.engine(),
    )
    run = Run(session)
    loop = algorithm.load_train()(configure(algorithm, settings), run)
    began, before = time.perf_counter(), torch.get_num_threads()
    next(loop)
    first = session.ledger.flops
    next(loop, None)  # the second update is not audited, so it is the one to time
    middle = time.perf_counter()
    next(loop, None)
    seconds = time.perf_counter() - middle
    flops = (session.ledger.flops - first) / 2 if session.ledger.updates >= 2 else first
    loop.close()
    return {
        "flops_per_update": flops,
        "seconds_per_update": seconds if seconds > 1e-4 else middle - began,
        "threads": before,
        "updates": run.most,
        "memory_bytes": psutil.Process(os.getpid()).memory_info().rss,
        "models_resident": session.ledger.report()["models_resident"],
        "checkpoint_bytes": _state_bytes(session),
    }


def _state_bytes(session: Session) -> int:
    """Bytes of one checkpoint: everything kept, AdamW's two moments included."""
    states = (thing.state_dict() for thing in session.kept.values() if hasattr(thing, "state_dict"))
    return sum(_tensor_bytes(state) for state in states)


def _tensor_bytes(tree: Any) -> int:
    if isinstance(tree, torch.Tensor):
        return tree.nbytes
    if isinstance(tree, dict):
        return sum(map(_tensor_bytes, tree.values()))
    return sum(map(_tensor_bytes, tree)) if isinstance(tree, (list, tuple)) else 0
