"""What the jobs of a bench share: the base model, the rows of a seed, the reward, the start."""

import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import cast

import torch
from transformers import PreTrainedModel
from zoo_leaderboard.schema import Environment

from zoo_core.accounting.meter import METER_VERSION
from zoo_core.compute.processes import accelerator
from zoo_core.datasets.chat import named_ends
from zoo_core.datasets.encoding import Encoder
from zoo_core.datasets.files import read_rows
from zoo_core.datasets.parse import preference
from zoo_core.datasets.splits import in_first_half
from zoo_core.errors import ModelError, SpecError
from zoo_core.judge import Judge
from zoo_core.models.directories import context_of
from zoo_core.models.loading import load_policy, load_scorer
from zoo_core.models.lora import add_adapter
from zoo_core.models.scorer import Scorer
from zoo_core.models.tokenizers import load_scorer_tokenizer, load_tokenizer
from zoo_core.records import Algorithm
from zoo_core.registry.plugins import plugins
from zoo_core.registry.references import load_judge, load_reward, load_rows, load_unseen, resolve
from zoo_core.reward import Reward
from zoo_core.rollout import RolloutEngine
from zoo_core.rows import DataRow, Demonstration, Kind, Preference, Prompt, distinct
from zoo_core.session.seeds import derive
from zoo_core.session.session import Session
from zoo_harness import controls
from zoo_harness.payloads import Reading
from zoo_harness.spec.schema import FOR_GOLD, Spec

PAIRS, HELD_OUT_PAIRS = "pairs.jsonl", "held-out-pairs.jsonl"
"""What a bench that makes its own preferences leaves: those to learn from, and those to measure rewards on."""
PAIRS_MEASURED = 400
"""Pairs at most that gold and proxy are measured on."""
LIMITS: dict[str, str] = {
    "preferences": "preference_labels",
    "demonstrations": "demonstrations",
    "prompts": "prompts",
}


@dataclass
class Selected:
    """The rows of a data set that one seed uses, and how many before them were left out."""

    rows: list[DataRow] = field(default_factory=list)
    too_long: int = 0
    """Prompts longer than `prompt_tokens`."""
    alike: int = 0
    """Pairs whose answers do not differ as far as they are read: they say nothing and count as no label."""


class Materials:
    """The spec's references, opened."""

    def __init__(
        self, spec: Spec, pairs: Path | None = None, half: str | None = None, *, shuffled: bool = False
    ) -> None:
        self.spec = spec
        self.pairs = pairs
        """Where the bench made its own preferences."""
        self.half = half
        """Whose half of the preferences this is, where gold is trained on the other."""
        self.shuffled = shuffled
        """Whether half of the preferences are turned round."""
        self._kept: dict[Kind, tuple[int, Selected]] = {}

    @classmethod
    def of(cls, payload: Reading) -> "Materials":
        """Open what a job's payload names."""
        return cls(payload.spec, payload.pairs, payload.half, shuffled=payload.shuffled)

    @cached_property
    def base(self) -> Path:
        """Directory of the base model."""
        return resolve(self.spec.base)

    @cached_property
    def encoder(self) -> Encoder:
        """Tokenizer and lengths of the bench."""
        spec = self.spec
        device, ends = accelerator().device, named_ends(self.base)
        return Encoder(load_tokenizer(self.base), spec.prompt_tokens, spec.response_tokens, device, ends)

    def policy(self, start: Path, algorithm: Algorithm, seed: int) -> PreTrainedModel:
        """Return the model that an algorithm trains, with the adapter of the spec if it hands over a policy."""
        lora = self.spec.lora if algorithm.makes == "policy" else None

        def adapt(policy: PreTrainedModel) -> None:
            if lora:
                with torch.random.fork_rng():
                    torch.manual_seed(derive(seed, "lora"))
                    add_adapter(policy, "policy", **lora.model_dump())

        policy: PreTrainedModel = load_policy(start, adapt).train()
        return policy

    def rows(self, kind: Kind, seed: int) -> list[DataRow]:
        """Rows of a data set for a seed: limited, short enough, and pairs with a difference only."""
        rows = list(self.selected(kind, seed).rows)
        if kind == "preferences" and self.shuffled:
            return [*controls.shuffled(cast(list[Preference], rows), seed)]
        return rows

    def selected(self, kind: Kind, seed: int) -> "Selected":
        """Rows for a seed, and what became of the others.

        Those of the first seed asked for are kept: a probe reads all seeds and measures every algorithm with one.
        """
        kept = self._kept.get(kind)
        if kept is None or kept[0] != seed:
            kept = seed, self._read(kind, seed)
            self._kept.setdefault(kind, kept)
        return kept[1]

    def _read(self, kind: Kind, seed: int) -> "Selected":
        limit = getattr(self.spec.limits, LIMITS[kind]) if kind in LIMITS else None
        if kind == "preferences" and self.pairs:
            return Selected(self._made(PAIRS, seed)[:limit])
        if kind == "demonstrations" and self.spec.imitates_chosen:
            return self._chosen(seed)
        ref = self._ref(kind)
        rows = load_rows(ref, kind, seed)
        if kind == "preferences" and self.half:
            rows = [row for row in rows if in_first_half(row.prompt) == (self.half != FOR_GOLD)]
            limit = None if self.half == FOR_GOLD else limit
        found = Selected()
        for row in rows:
            if len(found.rows) == limit:
                break
            if self.spec.long_prompts == "drop" and not self.encoder.fits(row.prompt, row.where):
                found.too_long += 1
            elif isinstance(row, Preference) and self._alike(row):
                found.alike += 1
            else:
                self.encoder.prompt(row.prompt, row.where)
                found.rows.append(row)
        if not found.rows and found.alike:
            raise SpecError(
                f"{ref}: chosen and rejected are the same in all {found.alike} pairs, as models read them: the first "
                f"response_tokens={self.spec.response_tokens} tokens. Raise it, or give pairs that differ."
            )
        if not found.rows:
            raise SpecError(f"{ref}: every prompt is longer than prompt_tokens={self.spec.prompt_tokens}; raise it.")
        return found

    def _chosen(self, seed: int) -> Selected:
        """The chosen answers of the pairs that a seed uses, as demonstrations."""
        pairs = self.selected("preferences", seed)
        rows = [Demonstration(p.prompt, p.chosen, p.where, p.columns) for p in cast(list[Preference], pairs.rows)]
        return Selected([*rows[: self.spec.limits.demonstrations]], pairs.too_long, pairs.alike)

    def _alike(self, row: Preference) -> bool:
        """Whether a pair is the same answer twice, as far as it is learnt from."""
        chosen, rejected = (self.encoder.response(row.prompt, one, row.where) for one in (row.chosen, row.rejected))
        return chosen == rejected

    def _ref(self, kind: Kind) -> str:
        ref = self.spec.prompts if kind.endswith("prompts") else getattr(self.spec, kind)
        if not isinstance(ref, str):
            raise SpecError(f"this bench needs {kind!r}; give a file, a saved data set or a hub id under `{kind}:`.")
        return ref

    def _made(self, name: str, seed: int) -> list[DataRow]:
        return self.parsed(read_rows(str((self.pairs or Path()) / name)) or [], name, seed)

    def parsed(self, made: Iterable[Mapping[str, object]], name: str, seed: int) -> list[DataRow]:
        """Return pairs that the bench made, each with the columns of the row whose prompt it answers."""
        columns = {prompt.where: prompt.columns for prompt in self.rows("prompts", seed)}
        numbered = enumerate(made, start=1)
        return [replace(preference(p, f"{name}:{number}"), columns=columns[str(p["from"])]) for number, p in numbered]

    def unseen_pairs(self, seed: int, count: int) -> list[Preference]:
        """Pairs that no algorithm of this seed learns from, short enough; none if there are none."""
        if self.pairs:
            rows = self._made(HELD_OUT_PAIRS, seed)
        elif not isinstance(self.spec.preferences, str):
            rows = []
        elif self.half:
            rows = Materials(self.spec, half=FOR_GOLD).rows("preferences", seed)
        else:
            rows = load_unseen(self.spec.preferences, seed, self.spec.limits.preference_labels)
        fitting = (row for row in rows if isinstance(row, Preference) and self.encoder.fits(row.prompt, row.where))
        return list(islice(fitting, count))

    def unseen_demonstrations(self, seed: int, count: int) -> list[Demonstration]:
        """Return demonstrations behind the limit, which no algorithm of this seed learns from, short enough."""
        limit = self.spec.limits.demonstrations
        if self.spec.imitates_chosen:
            pairs = self.unseen_pairs(seed, count)
            return [Demonstration(pair.prompt, pair.chosen, pair.where, pair.columns) for pair in pairs]
        rows = load_rows(self._ref("demonstrations"), "demonstrations", seed)[limit:] if limit is not None else []
        fitting = (row for row in rows if isinstance(row, Demonstration) and self.encoder.fits(row.prompt, row.where))
        return list(islice(fitting, count))

    def signals(self, learns_from: Iterable[str], seed: int) -> dict[str, list[DataRow]]:
        """Return the data sets that an algorithm's record lists, and no others."""
        wanted = set(learns_from)
        kinds: list[Kind] = ["demonstrations", "preferences", "prompts"]
        return {kind: self.rows(kind, seed) for kind in kinds if kind in wanted}

    def texts(self, kind: Kind, seed: int, count: int) -> list[Prompt]:
        """Distinct prompts for the scorer."""
        return distinct(self.rows(kind, seed))[:count]

    def engine(self) -> RolloutEngine:
        """Return the rollout engine."""
        engine: RolloutEngine | None = plugins().first("zoo_rollout_engine", name=self.spec.rollout_engine)
        if engine is None:
            raise SpecError(f"no installed plugin provides the rollout engine {self.spec.rollout_engine!r}.")
        return engine

    def check_lengths(self) -> None:
        """Raise `SpecError` unless prompt and response fit the base model's context."""
        context = context_of(self.base)
        wanted = self.spec.prompt_tokens + self.spec.response_tokens
        if context and wanted > context:
            raise SpecError(
                f"prompt_tokens={self.spec.prompt_tokens} and response_tokens={self.spec.response_tokens} make "
                f"{wanted} tokens, "
                f"more than the context of {self.spec.base} ({context}). Lower one of them."
            )


def sampling(payload: Reading, seed: int) -> Session:
    """Return a session without a budget, in which the job's start (or the base) answers training prompts."""
    materials = Materials.of(payload)
    return Session(
        policy=load_policy(payload.start or materials.base),
        encoder=materials.encoder,
        seed=seed,
        budget=float("inf"),
        rows=materials.signals(("prompts",), seed),
        engine=materials.engine(),
    )


def open_judge(spec: Spec, learns_from: Iterable[str]) -> Judge | None:
    """Return the judge of a bench for an algorithm that asks one."""
    return load_judge(spec.judge or spec.base) if "judge" in learns_from else None


def open_reward(ref: str | None, directory: Path | None) -> Reward:
    """Return the reward of a bench: trained by one of its stages, or ready-made."""
    if directory is not None:
        return Scorer(load_scorer(directory), load_scorer_tokenizer(directory))
    if ref is None:
        raise SpecError("this bench has no reward; give `reward: preferences`, a scorer or module:function.")
    reward = load_reward(ref)
    if reward is None:
        raise ModelError(f"{ref!r} is no reward: not a scorer's directory, module:function, hub id or plugin's reward.")
    return reward


def environment() -> Environment:
    """What the bits of a result depend on beside the job itself."""
    return {
        "zoo": version("zoo-core"),
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "lm_eval": version("lm-eval"),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": accelerator().device.type,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "meter_version": METER_VERSION,
    }
