"""A world: all that is drawn from its number."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from random import Random

from zoo_tinytown_gold.grammar import Grammar, make_grammar
from zoo_tinytown_gold.habits import make_habit
from zoo_tinytown_gold.lexicon import ATTRIBUTES, Lexicon, make_lexicon

PARTS = ("format", "topic", "tone", "length", "mention", "start", "end", "fact", "consistency")
"""The parts of an answer that gold scores, besides whether it consists of sentences."""


@dataclass(frozen=True, repr=False)
class World:
    """One world of the family."""

    number: int
    lexicon: Lexicon
    grammar: Grammar
    costs: Mapping[str, float]
    """The share of its gold that an answer loses if it violates a part completely, by part."""
    ease: Mapping[str, float]
    """How much more or less often writers heed a part than the other parts, by part."""
    habit: Mapping[str, str]
    """What people who do not heed a part of a request take its value for: see `zoo_tinytown_gold.habits`."""
    facts: Mapping[tuple[str, str], str]
    """The true value in this world, by thing and attribute."""

    def __repr__(self) -> str:
        return f"World({self.number})"


@cache
def get_world(number: int) -> World:
    """Return the world of a number, the same on every machine."""
    rng = stream(number, "world")
    lexicon = make_lexicon(rng)
    questions = [(thing, attribute) for thing in lexicon.topic_of for attribute in ATTRIBUTES]
    return World(
        number=number,
        lexicon=lexicon,
        grammar=make_grammar(rng, lexicon),
        costs={part: round(rng.uniform(0.3, 0.5), 3) for part in PARTS},
        ease={part: round(rng.uniform(0.85, 1.15), 3) for part in PARTS},
        habit=make_habit(rng, lexicon),
        facts={(t, a): rng.choice(lexicon.values[a]) for t, a in questions},
    )


def stream(number: int, *purpose: object) -> Random:
    """Return a generator of a world for one purpose, which other purposes do not affect."""
    return Random("/".join(map(str, ("tinytown", number, *purpose))))
