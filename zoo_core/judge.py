"""Judges: language models that are asked about texts, in place of people."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from zoo_core.accounting.ledger import Ledger
from zoo_core.accounting.meter import module_of
from zoo_core.compute.processes import broadcast
from zoo_core.errors import SpecError
from zoo_core.rows import Text

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


class CountedJudge:
    """A judge whose every call is in a run's ledger, with what it computed."""

    def __init__(self, judge: Judge, ledger: Ledger) -> None:
        self._judge, self._ledger = judge, ledger
        self._model = module_of(judge)
        if self._model is not None:
            ledger.meter.attach(self._model, "judge")

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
            answer = broadcast(ask) if self._model is None else ask()
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
