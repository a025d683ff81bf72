"""The words of a world: made up from syllables, every word in exactly one class."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

FORMS: Mapping[str, tuple[str, str]] = {
    "note": ("", "."),
    "order": ("must", "."),
    "question": ("does", "?"),
    "wish": ("may", "!"),
}
"""Kinds of sentence: the marker word and the closing mark that make a sentence one of that kind."""
PLURALS = {"note": "notes", "order": "orders", "question": "questions", "wish": "wishes"}
MARKS = (".", "?", "!")
SOMEONE = "someone"
NUMBERS = tuple(str(n) for n in range(41))
ATTRIBUTES = ("home", "colour", "friend", "sound")
"""What is true of every thing of a world: one value of each attribute."""
_FUNCTION_WORDS = """
the must does may . ? ! :
write give tell about kind plain mention use word start begin end finish with is they say
what which for of plus minus in this how many lines why not because it make yes no
rude kinder longer first second
"""
FUNCTION_WORDS = (*_FUNCTION_WORDS.split(), SOMEONE, *PLURALS, *PLURALS.values(), *ATTRIBUTES)
"""The words that all worlds share."""
_CONSONANTS = "b d f g k l m n p r s t v z"
_ONSETS = tuple(f"{_CONSONANTS} br dr gl pl st tr".split())
_VOWELS = tuple("aeiou")
_SIZES = dict(names=16, verbs=20, adjectives=20, kind=8, rude=8, openers=8, tails=8, topics=10)
_ENDINGS = dict(
    **dict(names="o", verbs="s", adjectives="ish", kind="ly", rude="mph", openers="ver"),
    **dict(tails="um", topics="ry", things="n", values="x"),
)
THINGS_PER_TOPIC = 6
VALUES_PER_ATTRIBUTE = 8


@dataclass(frozen=True)
class Lexicon:
    """All words of a world by class."""

    names: tuple[str, ...]
    verbs: tuple[str, ...]
    adjectives: tuple[str, ...]
    kind: tuple[str, ...]
    rude: tuple[str, ...]
    openers: tuple[str, ...]
    tails: tuple[str, ...]
    topics: tuple[str, ...]
    """All topics. Prompts of a board never ask about the last two; the judgements of pretraining are about these."""
    things: Mapping[str, tuple[str, ...]]
    """The things of each topic."""
    values: Mapping[str, tuple[str, ...]]
    """The possible values of each attribute."""
    topic_of: Mapping[str, str] = field(init=False)
    category: Mapping[str, str] = field(init=False)
    """The class, as one letter, of each word that may be in an answer: see `zoo_tinytown.grammar`."""

    def __post_init__(self) -> None:
        """Fill the two reverse look-ups."""
        topic_of = {thing: topic for topic in self.topics for thing in self.things[topic]}
        names = (*self.names, SOMEONE)
        classes = dict(O=self.openers, K=self.kind, R=self.rude, N=names, V=self.verbs, A=self.adjectives)
        classes |= dict(T=tuple(topic_of), W=self.tails, t=("the",), m=("must", "does", "may"), e=MARKS)
        category = {word: letter for letter, words in classes.items() for word in words}
        object.__setattr__(self, "topic_of", topic_of)
        object.__setattr__(self, "category", category)

    @property
    def board_topics(self) -> tuple[str, ...]:
        """Return the topics that prompts of a board ask about."""
        return self.topics[:-2]

    @property
    def judged_topics(self) -> tuple[str, ...]:
        """Return the topics that only the judgements of pretraining are about."""
        return self.topics[-2:]

    def words(self) -> list[str]:
        """Return every word of the world in a fixed order, function words and numbers first."""
        people = [*self.names, *self.verbs, *self.adjectives]
        tones = [*self.kind, *self.rude, *self.openers, *self.tails]
        values = [value for attribute in ATTRIBUTES for value in self.values[attribute]]
        return [*FUNCTION_WORDS, *NUMBERS, *people, *tones, *self.topics, *self.topic_of, *values]


def make_lexicon(rng: Random) -> Lexicon:
    """Make up the words of a world; no word occurs twice."""
    taken = set(FUNCTION_WORDS)
    classes = {name: _make_words(rng, size, _ENDINGS[name], taken) for name, size in _SIZES.items()}
    things = {t: _make_words(rng, THINGS_PER_TOPIC, _ENDINGS["things"], taken) for t in classes["topics"]}
    values = {a: _make_words(rng, VALUES_PER_ATTRIBUTE, _ENDINGS["values"], taken) for a in ATTRIBUTES}
    return Lexicon(**classes, things=things, values=values)


def _make_words(rng: Random, count: int, ending: str, taken: set[str]) -> tuple[str, ...]:
    words: list[str] = []
    while len(words) < count:
        word = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(2 if ending in "on" else 1))
        word += rng.choice(_CONSONANTS.split()) + ending if ending in ("ish", "um", "ry") else ending
        if word not in taken:
            taken.add(word)
            words.append(word)
    return tuple(words)
