"""The job before all others: open everything that the spec names, and say all that is wrong with it at once."""

import math
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from transformers import PreTrainedModel
from zoo_leaderboard.schema import DataSet

from zoo_core.datasets.encoding import Encoder
from zoo_core.errors import ModelError, SpecError
from zoo_core.models.causal_judge import CausalJudge
from zoo_core.models.directories import files_sha256, weights_sha256
from zoo_core.models.loading import load_policy
from zoo_core.models.scorer import Scorer
from zoo_core.models.tokenizers import how_to_add
from zoo_core.registry.references import load_judge, notes_on, resolve
from zoo_core.reward import Reward, Sample, asked, checked, name_of
from zoo_core.rows import DataRow, Kind, Prompt, answers_of, distinct, fingerprint
from zoo_harness.faults import Faults
from zoo_harness.job import Job, seconds_of_this_process
from zoo_harness.jobs.materials import LIMITS, PAIRS_MEASURED, Materials, Selected, environment, open_reward
from zoo_harness.jobs.measures import show
from zoo_harness.payloads import Probing
from zoo_harness.planning.identity import package_hash
from zoo_harness.results import Checked, Cut
from zoo_harness.spec.schema import FOR_ALGORITHMS, FOR_GOLD, FROM_PAIRS, GOLD_PAIRS, UNSEEN_PAIRS, LabelPairs, Spec


def run(job: Job) -> Checked:
    """Check; return what was found."""
    payload, faults = Probing.of(job.payload), Faults()
    spec = payload.spec
    materials = Materials(spec, half=FOR_ALGORITHMS if spec.gold == FROM_PAIRS else None)
    base, encoder = materials.base, materials.encoder  # without them nothing else can be checked
    with faults.noted():
        materials.check_lengths()
    selected, data = dict[Kind, list[Selected]](), dict[str, DataSet]()
    for kind in payload.kinds:
        with faults.noted():
            selected[kind] = [materials.selected(kind, seed) for seed in spec.seed_numbers]
    with faults.noted():
        data = _check_data(materials, selected)
    hashes, cut_by_scorers = _check_rewards(materials, payload.rewards, selected, faults)
    policy = load_policy(base)
    with faults.noted():
        _check_special_tokens(spec.base, encoder, policy)
    with faults.noted():
        hashes |= _check_tasks(materials, policy)
    faults.tell()
    return {
        "identity": job.identity,
        "base_path": str(base),
        "bytes_per_weight": next(policy.parameters()).element_size(),
        "base": {
            "ref": spec.base,
            "sha256": weights_sha256(base),
            "files": files_sha256(base),
            "parameters": sum(parameter.numel() for parameter in policy.parameters()),
            "vocabulary": len(encoder.tokenizer),
            "ends": [str(encoder.tokenizer.convert_ids_to_tokens(end)) for end in sorted(encoder.ends)],
        },
        "data": data,
        "hashes": hashes,
        "cut_by_scorers": cut_by_scorers,
        "environment": environment(),
        "seconds": seconds_of_this_process(),
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


def _check_data(materials: Materials, selected: Mapping[Kind, Sequence[Selected]]) -> dict[str, DataSet]:
    """Count the rows of every data set and seed, what is left out and what is cut, and hash them."""
    seeds = materials.spec.seed_numbers
    described: dict[str, DataSet] = {kind: _described(materials, per_seed) for kind, per_seed in selected.items()}
    for kind, ref in _given(materials.spec, selected).items():
        described[kind]["notes"] = notes_on(ref, kind, materials.spec.first_seed)
    if materials.half:
        for_gold = Materials(materials.spec, half=FOR_GOLD)
        described[GOLD_PAIRS] = _described(materials, [for_gold.selected("preferences", seed) for seed in seeds])
    if materials.spec.preferences is not None and not isinstance(materials.spec.preferences, LabelPairs):
        unseen = [Selected(list(materials.unseen_pairs(seed, PAIRS_MEASURED))) for seed in seeds]
        described[UNSEEN_PAIRS] = _described(materials, unseen)
    if "test_prompts" in selected:  # what cannot be read is told with all other faults
        described["test_prompts"]["overlap"] = _overlap(selected)
    return described


def _overlap(selected: Mapping[Kind, Sequence[Selected]]) -> list[int]:
    """By seed: the test prompts that are among the rows to learn from, word for word."""
    learned = [found for kind, found in selected.items() if kind not in ("dev_prompts", "test_prompts")]
    counts = []
    for place, test in enumerate(selected["test_prompts"]):
        seen = {show(row.prompt) for per_seed in learned for row in per_seed[place].rows}
        counts.append(sum(show(row.prompt) in seen for row in distinct(test.rows)))
    return counts


def _given(spec: Spec, kinds: Iterable[Kind]) -> dict[Kind, str]:
    """The data sets that the spec names, each once."""
    named = {kind: getattr(spec, kind) for kind in kinds if kind in LIMITS}
    once = {ref: kind for kind, ref in reversed(named.items()) if isinstance(ref, str)}
    return {kind: ref for ref, kind in once.items()}


def _described(materials: Materials, per_seed: Sequence[Selected]) -> DataSet:
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


def _check_rewards(
    materials: Materials, rewards: list[str], selected: Mapping[Kind, Sequence[Selected]], faults: Faults
) -> tuple[dict[str, str], dict[str, Cut]]:
    """Open rewards, gold, annotator and judge, and have each meet the texts it will be given.

    Return a hash of each, so that results of an older model do not pass for new ones, and what scorers cut.
    """
    spec, found, cut = materials.spec, dict[str, str](), dict[str, Cut]()
    prompts, scored = _distinct_prompts(selected), _scored_prompts(selected)
    named = [("reward", ref) for ref in rewards] + [("gold", spec.gold)]
    if isinstance(spec.preferences, LabelPairs):
        named.append(("preferences.annotator", spec.preferences.annotator))
    for key, ref in named:
        if ref and ref != FROM_PAIRS:
            with faults.noted(key):
                reward = open_reward(ref, None)
                _try_reward(reward, prompts, scored)
                if isinstance(reward, Scorer):
                    cut[ref] = _cut(reward, prompts, spec.response_tokens)
                found[ref] = files_sha256(resolve(ref)) if isinstance(reward, Scorer) else _code_of(reward)
    if spec.judge:
        with faults.noted("judge"):
            asked = load_judge(spec.judge)
            path = Path(str(asked.model.config.name_or_path)) if isinstance(asked, CausalJudge) else None
            found[spec.judge] = files_sha256(path) if path else f"{spec.judge} {_code_of(asked)}"
    return found, cut


def _distinct_prompts(selected: Mapping[Kind, Sequence[Selected]]) -> list[Prompt]:
    """Every different prompt of all data sets and seeds."""
    rows = (row for per_seed in selected.values() for found in per_seed for row in found.rows if row.prompt)
    return distinct(rows)


def _scored_prompts(selected: Mapping[Kind, Sequence[Selected]]) -> list[Prompt]:
    """Every prompt whose answers a reward scores, as it is given to the reward."""
    prompts: list[Prompt] = []
    for kind, per_seed in selected.items():
        for found in per_seed:
            rows = [row for row in found.rows if isinstance(row, Prompt)]
            prompts += rows if kind == "prompts" else distinct(rows)
    return prompts


def _try_reward(reward: Reward, prompts: Sequence[Prompt], scored: Sequence[Prompt]) -> None:
    """Have a scorer's template and tokenizer read every prompt; ask for scores once for each kind of row."""
    if isinstance(reward, Scorer):
        for prompt in prompts:
            reward.encode(_trial(prompt), prompt.where)
    best = getattr(reward, "best", None)
    if best is not None and (isinstance(best, bool) or not isinstance(best, (int, float)) or not math.isfinite(best)):
        raise SpecError(f"the reward {name_of(reward)} has best = {best!r}; it must be the highest score there is.")
    kinds = {_kind(prompt): prompt for prompt in reversed(scored)}
    trial = [_trial(prompt) for prompt in kinds.values() for _ in range(2)]
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


def _cut(scorer: Scorer, prompts: Sequence[Prompt], response_tokens: int) -> Cut:
    """Count the prompts that do not fit a scorer's context before a longest answer: it reads their end only."""
    room = scorer.longest - response_tokens
    lengths = (len(scorer.encode(Sample(prompt.prompt, "", ended=False), prompt.where)) for prompt in prompts)
    return {"context": scorer.longest, "prompts": len(prompts), "cut": sum(length > room for length in lengths)}


def _trial(prompt: Prompt) -> Sample:
    return Sample(prompt.prompt, "an answer", ended=True, row=prompt.columns)


def _kind(prompt: Prompt) -> tuple[object, ...]:
    """The form of a conversation, and which columns there are: what a reward may stumble over."""
    form = "text" if isinstance(prompt.prompt, str) else tuple(message["role"] for message in prompt.prompt)
    filled = frozenset(name for name, value in prompt.columns.items() if value is not None)
    return form, filled, frozenset(prompt.columns.disputed)


def _check_tasks(materials: Materials, policy: PreTrainedModel) -> dict[str, str]:
    """Load the lm-eval tasks and ask a few items of each; hash them."""
    if not materials.spec.tasks:
        return {}
    from zoo_harness.jobs.lmeval import check_tasks, load_tasks, task_hash

    tasks = load_tasks(materials.spec.tasks)
    check_tasks(policy, materials.encoder.tokenizer, tasks)
    return {f"task {name}": task_hash(task) for name, task in tasks.items()}


def _code_of(reward: object) -> str:
    """Hash of the code that a function, or a plugin's reward or judge, is written in, and of what it has loaded."""
    module = getattr(reward, "__module__", None) or type(reward).__module__
    return package_hash(module.partition(".")[0]) + getattr(reward, "identity", "")
