"""The words of a world, drawn from pools of English words; every word is in exactly one class."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from zoo_tinytown_gold import pools

FORMS: Mapping[str, tuple[str, str]] = {
    "note": ("will", "."),
    "order": ("must", "."),
    "question": ("does", "?"),
    "wish": ("may", "!"),
}
"""Kinds of sentence: the marker word and the closing mark that make a sentence one of that kind.

Every kind has a marker, so that the one form of a verb fits all: "clara will paint", "does clara paint".
"""
PLURALS = {"note": "notes", "order": "orders", "question": "questions", "wish": "wishes"}
MARKS = (".", "?", "!")
NUMBERS = tuple(str(n) for n in range(41))
ATTRIBUTES = ("home", "colour", "friend", "sound")
"""What is true of every thing of a world: one value of each attribute."""
_FUNCTION_WORDS = """
the must does may will . ? ! :
write give tell about kind plain mention use word start begin end finish with is they say do not
what which for of plus minus in this how many lines why because it make yes no
rude kinder longer first second
"""
FUNCTION_WORDS = (*_FUNCTION_WORDS.split(), *PLURALS, *PLURALS.values(), *ATTRIBUTES)
"""The words that all worlds share."""
_SIZES = dict(names=16, verbs=20, adjectives=20, kind=8, rude=8, openers=8, tails=8)
TOPICS = 10
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
    """The class, as one letter, of each word that may be in an answer: see `zoo_tinytown_gold.grammar`."""

    def __post_init__(self) -> None:
        """Fill the two reverse look-ups."""
        topic_of = {thing: topic for topic in self.topics for thing in self.things[topic]}
        markers = tuple(marker for marker, _ in FORMS.values())
        classes = dict(O=self.openers, K=self.kind, R=self.rude, N=self.names, V=self.verbs, A=self.adjectives)
        classes |= dict(T=tuple(topic_of), W=self.tails, t=("the",), m=markers, e=MARKS)
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

    def fellows(self, word: str) -> list[str]:
        """Return the other words of the class of a word; those of a thing are the other things of its topic."""
        if word in self.topic_of:
            words = self.things[self.topic_of[word]]
        else:
            classes = (self.names, self.verbs, self.adjectives, self.openers, self.tails)
            words = next(words for words in classes if word in words)
        return [other for other in words if other != word]

    def words(self) -> list[str]:
        """Return every word of the world in a fixed order, function words and numbers first."""
        people = [*self.names, *self.verbs, *self.adjectives]
        tones = [*self.kind, *self.rude, *self.openers, *self.tails]
        values = [value for attribute in ATTRIBUTES for value in self.values[attribute]]
        return [*FUNCTION_WORDS, *NUMBERS, *people, *tones, *self.topics, *self.topic_of, *values]


def make_lexicon(rng: Random) -> Lexicon:
    """Draw the words of a world: about half of each pool."""
    classes = {name: tuple(rng.sample(getattr(pools, name.upper()), size)) for name, size in _SIZES.items()}
    topics = tuple(rng.sample(list(pools.TOPICS), TOPICS))
    things = {topic: tuple(rng.sample(pools.TOPICS[topic], THINGS_PER_TOPIC)) for topic in topics}
    values = {attribute: tuple(rng.sample(pools.VALUES[attribute], VALUES_PER_ATTRIBUTE)) for attribute in ATTRIBUTES}
    return Lexicon(**classes, topics=topics, things=things, values=values)
