"""Sentences of a world, from parts to text and back. Each world has its own word order."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from zoo_tinytown_gold.lexicon import FORMS, MARKS, Lexicon


@dataclass(frozen=True)
class Sentence:
    """One sentence by its parts; an absent part is the empty string."""

    form: str
    """A key of `FORMS`."""
    name: str
    verb: str
    thing: str
    opener: str = ""
    tone: str = ""
    epithet: str = ""
    """The adjective beside the name."""
    adjective: str = ""
    """The adjective beside the thing."""
    tail: str = ""


_SLOTS = dict(
    **dict(opener="O?", tone="[KR]?", marker="m", epithet="A?", name="N", verb="V", the="t"),
    **dict(adjective="A?", thing="T", tail="W?", mark="e"),
)
"""The letter of the words that may fill each slot, with a question mark if it may stay empty."""
_FORM_OF = {marks: form for form, marks in FORMS.items()}


@dataclass(frozen=True)
class Grammar:
    """The word order of a world."""

    order: tuple[str, ...]
    """The slots of a sentence in their order."""
    category: Mapping[str, str]
    pattern: re.Pattern[str]

    def write(self, sentence: Sentence) -> str:
        """Return the sentence as text."""
        marker, mark = FORMS[sentence.form]
        fixed = {"marker": marker, "the": "the", "mark": mark}
        return " ".join(filter(None, (fixed[s] if s in fixed else getattr(sentence, s) for s in self.order)))

    def parse(self, words: list[str]) -> Sentence | None:
        """Return the sentence that these words form, or None if they are not a sentence of this world."""
        match = self.pattern.fullmatch("".join(self.category.get(word, "x") for word in words))
        if match is None:
            return None
        slots = {slot: words[match.start(slot)] if match[slot] else "" for slot in self.order}
        form = _FORM_OF.get((slots.pop("marker"), slots.pop("mark")))
        slots.pop("the")
        return Sentence(form=form, **slots) if form else None

    def parse_text(self, text: str) -> list[tuple[str, Sentence | None]]:
        """Split a text at its closing marks; return each piece with its sentence, or None if it is no sentence."""
        pieces: list[list[str]] = [[]]
        for word in text.split():
            pieces[-1].append(word)
            if word in MARKS:
                pieces.append([])
        return [(" ".join(words), self.parse(words)) for words in pieces if words]


def make_grammar(rng: Random, lexicon: Lexicon) -> Grammar:
    """Draw the word order of a world, one of nine that read as English: three clauses, three places of the adverb."""
    subject, what = ["epithet", "name"], ["the", "adjective", "thing"]
    clause = rng.choice(
        (
            [*subject, "marker", "verb", *what],  # brave clara must find the small kite
            ["marker", *subject, "verb", *what],  # must brave clara find the small kite
            [*what, *subject, "marker", "verb"],  # the small kite brave clara must find
        )
    )
    clause.insert(rng.choice((0, clause.index("verb"), len(clause))), "tone")
    order = ("opener", *clause, "tail", "mark")
    pattern = "".join(f"(?P<{slot}>{_SLOTS[slot]})" for slot in order)
    return Grammar(order, lexicon.category, re.compile(pattern))
