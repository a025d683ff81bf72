"""Judges: language models that are asked about texts, in place of people."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zoo_core.chat import as_ids
from zoo_core.data import Text
from zoo_core.decoding import reader_of, sample_cached
from zoo_core.encoding import Encoder
from zoo_core.errors import ModelError, SpecError
from zoo_core.functional import masked_sum
from zoo_core.ledger import Ledger
from zoo_core.parallel import divided, from_first
from zoo_core.plugins import plugins
from zoo_core.rollout import Prompts, response_logprobs

Answers = TypeVar("Answers")
Verdict = list[float] | None
"""log P of each answer that was offered, up to a constant; None where the judge abstains."""


@dataclass(frozen=True)
class Written:
    """What a judge wrote."""

    text: str
    ended: bool
    """Whether the judge ended it itself; False if it was cut at the longest length."""


@runtime_checkable
class Judge(Protocol):
    """A language model that is asked about texts.

    Attributes that a judge may have beside its methods: `model` (a module in this process, which the run meters),
    `parameters` and `tokens` (of one elsewhere: its size, None if unknown, and the tokens it has read and written so
    far), `constitution` (the path of a file of principles and question forms that suit it).
    """

    def verdicts(self, questions: Sequence[Text], answers: Sequence[str]) -> list[Verdict]:
        """Return, for each question, how likely each of the answers is."""
        ...

    def write(self, questions: Sequence[Text], longest: int, temperature: float, seed: int) -> list[Written]:
        """Write an answer of at most `longest` tokens to each question; temperature 0 is greedy."""
        ...


def load_judge(ref: str) -> Judge:
    """Return the judge that `ref` names: one of a plugin, or a causal language model's directory or hub id."""
    judge: Judge | None = plugins().first("zoo_judge", ref=ref)
    if judge is None:
        raise SpecError(f"{ref!r} is no judge: not a model's directory, a hub id or a judge of an installed plugin.")
    return judge


class CausalJudge:
    """A causal language model in this process, reading with its own tokenizer and chat template."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        constitution: Path | None = None,
        batch_size: int = 64,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.constitution = constitution
        self.batch_size = batch_size
        self.longest: int = getattr(model.config, "max_position_embeddings", None) or 1024

    @classmethod
    def load(cls, ref: str, constitution: Path | None = None) -> "CausalJudge":
        """Load it from a directory, hub id or model of a plugin."""
        from zoo_core.models import load_policy, load_tokenizer, resolve

        path = resolve(ref)
        return cls(load_policy(path), load_tokenizer(path), constitution)

    @torch.no_grad()
    def verdicts(self, questions: Sequence[Text], answers: Sequence[str]) -> list[Verdict]:
        """log P(answer | question), summed over the answer's tokens; what ends the answer is not counted."""
        ids = [self.tokenizer(answer, add_special_tokens=False)["input_ids"] for answer in answers]
        if all(len(one) == 1 for one in ids):
            return self._next_token(questions, [one[0] for one in ids])
        encoder = self._encoder(max(map(len, ids)))
        rows = [(question, answer) for question in questions for answer in answers]
        found: list[float] = []
        for start in range(0, len(rows), self.batch_size):
            some = rows[start : start + self.batch_size]
            batch = encoder.responses(some, [False] * len(some))
            found += masked_sum(response_logprobs(self.model, batch), batch.mask).tolist()
        return [list(found[start : start + len(answers)]) for start in range(0, len(found), len(answers))]

    def _next_token(self, questions: Sequence[Text], answers: Sequence[int]) -> list[Verdict]:
        """Read all answers of one token each from one look at the question."""
        encoder = self._encoder(1)
        found: list[Verdict] = []

        def logprobs(some: Prompts) -> Float[Tensor, "B answers"]:
            return reader_of(self.model, some).prompts().float().log_softmax(-1)[:, list(answers)]

        for start in range(0, len(questions), self.batch_size):
            prompts = encoder.prompts(questions[start : start + self.batch_size])
            found += divided(logprobs, prompts, self.model).tolist()
        return found

    def write(self, questions: Sequence[Text], longest: int, temperature: float, seed: int) -> list[Written]:
        """Sample, or decode greedily, up to the end or `longest` tokens."""
        encoder = self._encoder(longest)
        generator = torch.Generator(encoder.device).manual_seed(seed)
        written: list[Written] = []
        for start in range(0, len(questions), self.batch_size):
            tokens, _ = sample_cached(
                self.model,
                encoder.prompts(questions[start : start + self.batch_size]),
                response_tokens=longest,
                temperature=temperature,
                eos=encoder.ends,
                pad=self.tokenizer.pad_token_id,
                generator=generator,
            )
            written += [
                Written(encoder.decode(row).strip(), not encoder.ends.isdisjoint(row)) for row in tokens.tolist()
            ]
        return written

    def _encoder(self, answer_tokens: int) -> Encoder:
        room = self.longest - answer_tokens
        if room < 1:
            raise ModelError(f"the judge's context of {self.longest} tokens leaves no room before {answer_tokens}.")
        named = as_ids(self.model.generation_config.eos_token_id if self.model.generation_config else None)
        limit = f"the {{}} that the judge's context of {self.longest} tokens leaves before its answer"
        more = "give a judge with a longer context (judge: ...)"
        return Encoder(self.tokenizer, room, answer_tokens, self.model.device, named, limit, more)


class CountedJudge:
    """A judge whose every call is in a run's ledger, with what it computed."""

    def __init__(self, judge: Judge, ledger: Ledger) -> None:
        self._judge, self._ledger = judge, ledger
        if isinstance(getattr(judge, "model", None), torch.nn.Module):
            ledger.meter.attach(judge.model, "judge")  # type: ignore[attr-defined]

    @property
    def constitution(self) -> Path | None:
        """The file of principles that suits this judge, if it brings one."""
        return getattr(self._judge, "constitution", None)

    def verdicts(self, questions: Sequence[Text], answers: Sequence[str]) -> list[Verdict]:
        """Ask, count, and check that what comes back are log-probabilities of these answers."""
        found = self._counted(len(questions), "score", lambda: self._judge.verdicts(questions, answers))
        if len(found) != len(questions):
            raise SpecError(f"the judge gave {len(found)} verdicts on {len(questions)} questions.")
        for verdict in found:
            if verdict is not None and (len(verdict) != len(answers) or not all(map(math.isfinite, verdict))):
                raise SpecError(
                    f"the judge gave the verdict {verdict}; it must be one finite number for each of {len(answers)} "
                    "answers, or None."
                )
        return found

    def write(self, questions: Sequence[Text], longest: int, temperature: float, seed: int) -> list[Written]:
        """Ask and count."""
        written = self._counted(
            len(questions), "sample", lambda: self._judge.write(questions, longest, temperature, seed)
        )
        if len(written) != len(questions):
            raise SpecError(f"the judge wrote {len(written)} texts to {len(questions)} questions.")
        return written

    def _counted(self, calls: int, phase: str, ask: Callable[[], Answers]) -> Answers:
        ledger = self._ledger
        before = getattr(self._judge, "tokens", 0)
        with ledger.meter.during(phase):
            # A judge elsewhere is asked once, not by every process, which it might answer differently.
            here = isinstance(getattr(self._judge, "model", None), torch.nn.Module)
            answer = ask() if here else from_first(ask)
            self._declare(getattr(self._judge, "tokens", 0) - before)
        ledger.judge_calls += calls
        return answer

    def _declare(self, tokens: int) -> None:
        """Charge what was computed elsewhere: two FLOPs a parameter and token."""
        parameters = getattr(self._judge, "parameters", None)
        if parameters is not None:
            self._ledger.declare("judge", 2 * parameters * tokens)
        elif not hasattr(self._judge, "model"):
            self._ledger.flag("unpriced: the size of the judge is not known")
