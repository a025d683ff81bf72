"""The job before all others: open everything the spec names, and measure one update of every algorithm.

What is wrong with the user's input is found here, before any training; and the plan's figures are measured, not
guessed: an update's FLOPs, seconds and memory are those of a real update on the real model and data.
"""

import math
import os
import reprlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import PreTrainedModel

from zoo_core.accounting.ledger import Ledger
from zoo_core.calibration import BATCH, SAMPLES
from zoo_core.datasets.encoding import Encoder
from zoo_core.datasets.parse import preference
from zoo_core.errors import ModelError, SpecError, ZooError
from zoo_core.models.causal_judge import CausalJudge
from zoo_core.models.copies import scorer_from
from zoo_core.models.directories import files_sha256, weights_sha256
from zoo_core.models.loading import load_policy
from zoo_core.models.scorer import Scorer
from zoo_core.models.tokenizers import how_to_add
from zoo_core.records import Algorithm
from zoo_core.registry.plugins import plugins
from zoo_core.registry.references import load_judge, load_reward, resolve
from zoo_core.reward import Calibration, Reward, Sample, asked, checked, name_of
from zoo_core.rows import DataRow, Kind, Prompt, Text, answers_of, fingerprint
from zoo_core.run import Run
from zoo_core.session.session import Session
from zoo_harness.code import package_hash
from zoo_harness.jobs import Job
from zoo_harness.label_pairs import labelled
from zoo_harness.pipeline import FROM_PAIRS
from zoo_harness.settings import configure
from zoo_harness.sizes import Sizes, read_config, sizes_of
from zoo_harness.spec import FOR_ALGORITHMS, FOR_THE_JUDGE, JUDGE_PAIRS, UNSEEN_PAIRS, LabelPairs, Spec
from zoo_harness.trace import Cells, Tracer, WatchedEngine, mean_of
from zoo_harness.work import PAIRS_MEASURED, Materials, Selected, environment, open_judge, open_reward

UNBOUNDED = 1e30
LOOK = 3
"""Updates of each loop that are measured; the first is audited, which takes longer."""


@dataclass
class Loop:
    """One loop of an algorithm."""

    most: int | None
    """Updates that it is bounded by."""
    share: float
    """Its part of the budget."""
    costs: list[tuple[Cells, float, int]]
    """FLOPs, seconds and steps of sampling of its first updates."""

    def report(self) -> dict[str, Any]:
        """Return what an update costs."""
        usual = self.costs[1:] or self.costs
        cells, seconds, steps = zip(*usual, strict=True)
        parts = mean_of(list(cells))
        return {
            "most": self.most,
            "share": self.share,
            "flops": sum(flops for *_, flops in parts),
            "seconds": max(sum(seconds) / len(usual), 1e-6),
            "parts": parts,
            "sampling_steps": sum(steps) / len(usual),
        }


def run(job: Job) -> dict[str, Any]:
    """Check and measure; return what the plan needs."""
    spec = Spec(**job.payload["spec"])
    materials = Materials(spec, half=FOR_ALGORITHMS if spec.gold == FROM_PAIRS else None)
    base = materials.base
    encoder = materials.encoder
    materials.check_lengths()
    selected = {kind: [materials.selected(kind, seed) for seed in range(spec.seeds)] for kind in job.payload["kinds"]}
    data = _check_data(materials, selected)
    rewards = job.payload["rewards"]
    judges, cut_by_scorers = _check_judges(materials, rewards, _distinct_prompts(selected))
    policy = load_policy(base)
    _check_special_tokens(spec.base, encoder, policy)
    judges |= _check_tasks(materials, policy)
    parameters = sum(parameter.numel() for parameter in policy.parameters())
    costs = {}
    for key, wanted in job.payload["measure"].items():
        algorithm = plugins().algorithm(wanted["algorithm"])
        costs[key] = _measure(materials, algorithm, wanted["settings"], wanted["reward"])
    return {
        "identity": job.identity,
        "base_path": str(base),
        "bytes_per_weight": next(policy.parameters()).element_size(),
        "base": {
            "ref": spec.base,
            "sha256": weights_sha256(base),
            "files": files_sha256(base),
            "parameters": parameters,
            "vocabulary": len(encoder.tokenizer),
            "ends": encoder.tokenizer.convert_ids_to_tokens(sorted(encoder.ends)),
        },
        "data": data,
        "judges": judges,
        "cut_by_scorers": cut_by_scorers,
        "costs": costs,
        "samples": _measure_samples(materials, spec, rewards),
        "environment": environment(),
    }


def _check_special_tokens(base: str, encoder: Encoder, policy: PreTrainedModel) -> None:
    """Raise `ModelError` if pad or EOS is unknown or has no embedding, or an ordinary word ends a response."""
    size: int = policy.config.get_text_config().vocab_size
    for end in encoder.named_ends:
        if end < min(size, len(encoder.tokenizer)) and end not in encoder.chat.special:
            word = encoder.tokenizer.convert_ids_to_tokens(end)
            raise ModelError(
                f"{base}: its generation config ends a response with the id {end}, which is the ordinary token "
                f"{word!r} of its tokenizer. Set eos_token_id in generation_config.json and config.json to what ends "
                "a turn."
            )
    for name in ("pad", "eos"):
        token = getattr(encoder.tokenizer, f"{name}_token_id")
        if token >= size or token == encoder.tokenizer.unk_token_id:
            raise ModelError(
                f"{base}: the {name.upper()} token has the id {token}, which is the unknown token or beyond the "
                f"model's {size} embeddings. {how_to_add(name, resolve(base))}"
            )


def _check_data(materials: Materials, selected: Mapping[Kind, Sequence[Selected]]) -> dict[str, dict[str, Any]]:
    """Count the rows of every data set and seed, what is left out and what is cut, and hash them."""
    seeds = range(materials.spec.seeds)
    described: dict[str, dict[str, Any]] = {
        kind: _described(materials, per_seed) for kind, per_seed in selected.items()
    }
    if materials.half:
        judges = Materials(materials.spec, half=FOR_THE_JUDGE)
        described[JUDGE_PAIRS] = _described(materials, [judges.selected("preferences", seed) for seed in seeds])
    if materials.spec.preferences is not None and not isinstance(materials.spec.preferences, LabelPairs):
        unseen = [Selected(list(materials.unseen_pairs(seed, PAIRS_MEASURED))) for seed in seeds]
        described[UNSEEN_PAIRS] = _described(materials, unseen)
    return described


def _described(materials: Materials, per_seed: Sequence[Selected]) -> dict[str, Any]:
    """Meet every answer with the template and the tokenizer, before training does; count by seed."""
    return {
        "rows": [len(found.rows) for found in per_seed],
        "dropped": [found.too_long for found in per_seed],
        "alike": [found.alike for found in per_seed],
        "answers": [sum(len(answers_of(row)) for row in found.rows) for found in per_seed],
        "cut": [_cut_answers(materials, found.rows) for found in per_seed],
        "sha256": [fingerprint(found.rows) for found in per_seed],
    }


def _cut_answers(materials: Materials, rows: Sequence[DataRow]) -> int:
    """Answers that are longer than `response_tokens`, whose end no algorithm sees."""
    encoder, most = materials.encoder, materials.spec.response_tokens
    lengths = (len(encoder.whole_response(row.prompt, answer, row.where)) for row in rows for answer in answers_of(row))
    return sum(length > most for length in lengths)


def _check_judges(
    materials: Materials, rewards: list[str], prompts: Sequence[Prompt]
) -> tuple[dict[str, str], dict[str, dict[str, int]]]:
    """Open rewards, gold, annotator and judge, and have each meet the texts it will be given.

    Return a hash of each, so that results of an older judge do not pass for new ones, and what scorers cut.
    """
    spec, found, cut = materials.spec, dict[str, str](), dict[str, dict[str, int]]()
    named = [("reward", reward) for reward in rewards] + [("gold", spec.gold)]
    if isinstance(spec.preferences, LabelPairs):
        named.append(("preferences.annotator", spec.preferences.annotator))
    for key, ref in named:
        if ref and ref != FROM_PAIRS:
            try:
                judge = open_reward(ref, None)
                _try_reward(judge, prompts)
                if isinstance(judge, Scorer):
                    cut[ref] = _cut(judge, prompts, spec.response_tokens)
                found[ref] = files_sha256(resolve(ref)) if isinstance(judge, Scorer) else _code_of(judge)
            except ZooError as error:
                raise type(error)(f"{key}: {error}") from None
    if spec.judge:
        try:
            asked = load_judge(spec.judge)
        except ZooError as error:
            raise type(error)(f"judge: {error}") from None
        path = Path(asked.model.name_or_path) if isinstance(asked, CausalJudge) else None
        found[spec.judge] = files_sha256(path) if path else f"{spec.judge} {_code_of(asked)}"
    return found, cut


def _distinct_prompts(selected: Mapping[Kind, Sequence[Selected]]) -> list[Prompt]:
    """Every different prompt of all data sets and seeds."""
    rows = (row for per_seed in selected.values() for found in per_seed for row in found.rows if row.prompt)
    return list({repr(row.prompt): Prompt(row.prompt, row.where) for row in rows}.values())


def _try_reward(reward: Reward, prompts: Sequence[Prompt]) -> None:
    """Have a scorer's template and tokenizer read every prompt; ask for scores once for each form of conversation."""
    if isinstance(reward, Scorer):
        for prompt in prompts:
            reward.encode(_trial(prompt), prompt.where)
    best = getattr(reward, "best", None)
    if best is not None and (isinstance(best, bool) or not isinstance(best, (int, float)) or not math.isfinite(best)):
        raise SpecError(f"the reward {name_of(reward)} has best = {best!r}; it must be the highest score there is.")
    forms = {_form(prompt.prompt): prompt for prompt in reversed(prompts)}
    trial = [_trial(prompt) for prompt in forms.values() for _ in range(2)]
    checked(reward, trial)
    parts = getattr(reward, "parts", None)
    if parts is not None:
        found = asked(lambda: parts(trial), f"parts of the reward {name_of(reward)}", reward)
        lengths = [len(scores) for scores in found.values()] if isinstance(found, Mapping) else []
        if not isinstance(found, Mapping) or any(length != len(trial) for length in lengths):
            raise SpecError(
                f"parts of the reward {name_of(reward)} gave {reprlib.repr(found)}; it must return one number per "
                "sample for each part: {name: [...]}."
            )


def _cut(scorer: Scorer, prompts: Sequence[Prompt], response_tokens: int) -> dict[str, int]:
    """Count the prompts that do not fit a scorer's context before a longest answer: it reads their end only."""
    room = scorer.longest - response_tokens
    lengths = (len(scorer.encode(Sample(prompt.prompt, "", ended=False), prompt.where)) for prompt in prompts)
    return {"context": scorer.longest, "prompts": len(prompts), "cut": sum(length > room for length in lengths)}


def _trial(prompt: Prompt) -> Sample:
    return Sample(prompt.prompt, "an answer", ended=True)


def _form(prompt: Text) -> tuple[str, ...]:
    return () if isinstance(prompt, str) else tuple(message["role"] for message in prompt)


def _check_tasks(materials: Materials, policy: PreTrainedModel) -> dict[str, str]:
    """Load the lm-eval tasks and ask a few items of each; hash them."""
    if not materials.spec.tasks:
        return {}
    from zoo_harness.lmeval import check_tasks, load_tasks, task_hash

    tasks = load_tasks(materials.spec.tasks)
    check_tasks(policy, materials.encoder.tokenizer, tasks)
    return {f"task {name}": task_hash(task) for name, task in tasks.items()}


def _code_of(reward: object) -> str:
    """Hash of the code that a function, or a plugin's reward or judge, is written in, and of what it has loaded."""
    module = getattr(reward, "__module__", None) or type(reward).__module__
    return package_hash(module.partition(".")[0]) + getattr(reward, "identity", "")


def _measure(
    materials: Materials, algorithm: Algorithm, settings: dict[str, Any], reward_ref: str | None
) -> dict[str, Any]:
    """Run the first updates of each loop from the base model; what they cost does not depend on the weights."""
    policy = load_policy(materials.base).train()
    rewarded = "reward" in algorithm.learns_from
    session = _session(materials, policy, reward_ref if rewarded else None)
    session.rows = _rows(materials, policy, algorithm)
    session.judge = open_judge(materials.spec, algorithm.learns_from)
    tracer = _trace(materials, session, reward_ref)
    loops: list[Loop] = []

    class Glance(Run):
        """Ends every loop after a few updates, and notes what they cost."""

        def updates(self, most: int | None = None) -> Iterator[int]:
            window = self._loop.window
            loops.append(Loop(most, min(1.0, (window.end - window.start) / UNBOUNDED), []))
            before, steps, began = tracer.parts, engine.steps, time.perf_counter()
            for update in super().updates(min(most or LOOK, LOOK)):
                with tracer.held if update == 0 else nullcontext():
                    yield update
                cost = tracer.parts - before, time.perf_counter() - began, engine.steps - steps
                loops[-1].costs.append(cost)
                before, steps, began = tracer.parts, engine.steps, time.perf_counter()

    engine = session.engine = WatchedEngine(session.engine)
    for _ in algorithm.load_train()(configure(algorithm, settings), Glance(session)):
        pass
    prepared = Counter({cell: flops for cell, flops in tracer.parts.items() if cell[1] == "prepare"})
    return {
        "loops": [loop.report() for loop in loops],
        "prepare_flops": prepared.total(),
        "prepare_parts": mean_of([prepared]),
        "memory_bytes": psutil.Process(os.getpid()).memory_info().rss,
        "models_resident": session.ledger.report()["models_resident"],
        "checkpoint_bytes": _state_bytes(session),
        "held": {**tracer.weights(session.kept.values()), "activations": tracer.held.finish()},
        "cached_tokens": engine.cached_tokens,
        "sampled_at_once": engine.rows,
    }


def _measure_samples(materials: Materials, spec: Spec, rewards: list[str]) -> dict[str, dict[str, Any]]:
    """Return by reward what calibrating it takes, and under "pairs" what labelling them does, by one batch of each."""
    found = {}
    for reward in rewards:
        sampling = _Sampling(materials, reward)
        rollout = sampling.run.sample(sampling.run.prompts.batch(0, BATCH))
        sampling.run.reward(rollout.samples)
        found[f"calibration {reward}"] = sampling.cost(SAMPLES / BATCH)
    if isinstance(spec.preferences, LabelPairs):
        sampling, made = _Sampling(materials, None), 0
        for _ in labelled(sampling.run, spec.preferences, load_reward(spec.preferences.annotator)):
            if made and sampling.engine.calls > 1:  # all pairs of the batches before are made
                break
            made += 1
        batches = sampling.engine.calls
        found["pairs"] = sampling.cost(spec.preferences.pairs / made * max(1, batches - 1) / batches)
    return found


class _Sampling:
    """Sampling the base outside of training, measured."""

    def __init__(self, materials: Materials, reward_ref: str | None) -> None:
        self.session = _session(materials, load_policy(materials.base), reward_ref)
        self.session.rows = materials.signals(("prompts",), 0)
        self.tracer = _trace(materials, self.session, reward_ref)
        self.engine = self.session.engine = WatchedEngine(self.session.engine)
        self.run = Run(self.session)
        self.began = time.perf_counter()

    def cost(self, times: float) -> dict[str, Any]:
        """Return what was done as a loop that is done so many times."""
        loop = {
            "most": times,
            "flops": float(self.session.ledger.flops),
            "seconds": time.perf_counter() - self.began,
            "parts": mean_of([self.tracer.parts]),
            "sampling_steps": self.engine.steps,
        }
        return {"loops": [loop]}


def _session(materials: Materials, policy: PreTrainedModel, reward_ref: str | None) -> Session:
    """A session that nothing bounds; a reward of pairs is a scorer on the base with a new head."""
    reward: Reward | None = None
    if reward_ref == FROM_PAIRS:
        reward = Scorer(scorer_from(policy, 0).eval().requires_grad_(False), materials.encoder.tokenizer)
    elif reward_ref is not None:
        reward = open_reward(reward_ref, None)
    return Session(
        policy=policy,
        encoder=materials.encoder,
        seed=0,
        budget=UNBOUNDED,
        reward=reward,
        calibration=Calibration(0.0, 1.0) if reward else None,
        engine=materials.engine(),
    )


def _trace(materials: Materials, session: Session, reward_ref: str | None) -> Tracer:
    """Let the session's meter tell parts apart; a scorer or judge that is not the base's keeps its size."""
    base: Sizes | None
    spec = materials.spec
    ready_made: list[object] = [session.reward] if reward_ref != FROM_PAIRS else []
    ready_made += [session.judge] if spec.judge not in (None, spec.base) else []
    models = [getattr(one, "model", None) for one in ready_made]
    foreign = [model for model in models if isinstance(model, torch.nn.Module)]
    try:
        base = sizes_of(read_config(materials.base))
    except ModelError:  # a mixture of experts, as a rule: it is measured as any other, and predicts no other size
        base = None
    tracer = Tracer(base, foreign)
    session.ledger = Ledger(tracer)
    return tracer


def _rows(materials: Materials, policy: PreTrainedModel, algorithm: Algorithm) -> dict[str, list[DataRow]]:
    """The data sets that an algorithm learns from; a few pairs of the base's own where the bench is to make them."""
    wanted = materials.spec.preferences
    if not isinstance(wanted, LabelPairs) or "preferences" not in algorithm.learns_from:
        return materials.signals(algorithm.learns_from, 0)
    some = wanted.model_copy(update={"pairs": 64})
    session = Session(policy, materials.encoder, 0, UNBOUNDED, materials.signals(("prompts",), 0))
    pairs = islice(labelled(Run(session), some, load_reward(wanted.annotator)), some.pairs)
    rest = [signal for signal in algorithm.learns_from if signal != "preferences"]
    made: list[DataRow] = [preference(pair, f"pair {number}") for number, pair in enumerate(pairs)]
    return {**materials.signals(rest, 0), "preferences": made}


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
