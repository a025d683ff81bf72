"""Judges: language models that label texts for RLAIF in place of people."""

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
"""log P of each answer that was offered, up to a constant; None if the judge abstains."""


@dataclass(frozen=True)
class Written:
    """A text that a judge wrote."""

    text: str
    ended: bool
    """Whether the judge ended the text itself; False if it was cut off at the longest length."""


@runtime_checkable
class Judge(Protocol):
    """A language model that labels texts for RLAIF.

    A judge may have more attributes than its methods. In this process: `model`, a module, which the run meters. On a
    server: `parameters`, its size (None if unknown), and `tokens`, the tokens that it has read and written so far; the
    ledger charges 2·parameters·tokens FLOPs. For both: `constitution`, the path of a file with principles and question
    forms that suit this judge.
    """

    def verdicts(self, questions: Sequence[Text], answers: Sequence[str]) -> list[Verdict]:
        """Return a verdict for each question: the log-probability of each answer."""
        ...

    def write(self, questions: Sequence[Text], longest: int, temperature: float, seed: int) -> list[Written]:
        """Write a text of at most `longest` tokens in reply to each question; temperature 0 is greedy."""
        ...


class CountedJudge:
    """A judge that enters its calls, and the FLOPs that they cost, into the ledger of a run."""

    def __init__(self, judge: Judge, ledger: Ledger) -> None:
        self._judge, self._ledger = judge, ledger
        self._model = module_of(judge)
        if self._model is not None:
            ledger.meter.attach(self._model, "judge")

    @property
    def constitution(self) -> Path | None:
        """The file of principles that suits this judge; None if it brings none."""
        return getattr(self._judge, "constitution", None)

    def verdicts(self, questions: Sequence[Text], answers: Sequence[str]) -> list[Verdict]:
        """Ask the judge, count the calls, and check that each verdict has one finite number per answer."""
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
        """Have the judge write, count the calls, and check that it wrote one text per question."""
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
            # Only rank 0 asks a judge on a server: it might give every rank another answer.
            answer = broadcast(ask) if self._model is None else ask()
            self._declare(getattr(self._judge, "tokens", 0) - before)
        ledger.judge_calls += calls
        return answer

    def _declare(self, tokens: int) -> None:
        """Charge the FLOPs that a server computed: two per parameter and token."""
        parameters = getattr(self._judge, "parameters", None)
        if parameters is not None:
            self._ledger.declare("judge", 2 * parameters * tokens)
        elif not hasattr(self._judge, "model"):
            self._ledger.flag("unpriced: the size of the judge is not known")
