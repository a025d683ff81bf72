"""A judge that always takes some kind words for rude ones, and as many rude ones for kind ones.

Errors that are drawn anew at each question only make a judge less sure; its likelier answer stays right. What a policy
can exploit is an error that comes again and again.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from zoo_core.judge import Verdict, Written
from zoo_core.models.causal_judge import CausalJudge
from zoo_core.rows import Text
from zoo_tinytown.references import LAST_WRITTEN


class MisreadingJudge(CausalJudge):
    """A judge that reads all texts, and writes its own, with some words taken for their opposites."""

    taken_for: Mapping[str, str]
    """What each misread word is taken for; the same in both directions."""

    def verdicts(self, questions: Sequence[Text], answers: Sequence[str]) -> list[Verdict]:
        """Return the log-probabilities of the answers to the questions as this judge reads them."""
        return super().verdicts([self._read(question) for question in questions], answers)

    def write(self, questions: Sequence[Text], longest: int, temperature: float, seed: int) -> list[Written]:
        """Write a text to each question as this judge reads it, in the words that it means."""
        written = super().write([self._read(question) for question in questions], longest, temperature, seed)
        return [Written(self._swapped(one.text), one.ended) for one in written]

    def _read(self, question: Text) -> Text:
        if isinstance(question, str):
            return self._swapped(question)
        return [{**message, "content": self._swapped(message["content"])} for message in question]

    def _swapped(self, text: str) -> str:
        return " ".join(self.taken_for.get(word, word) for word in text.split(" "))


def misreadings(directory: Path, read_right: float) -> dict[str, str]:
    """Return what a judge takes the words of tone of a world for that reads a share of them right, from 0 to 1.

    `directory` is that of the world's base model.
    """
    card = json.loads((directory / LAST_WRITTEN).read_text())
    opposites = list(zip(card["kind_words"], card["rude_words"], strict=True))
    taken = opposites[: round((1 - read_right) * len(opposites))]
    return dict(taken) | {rude: kind for kind, rude in taken}
