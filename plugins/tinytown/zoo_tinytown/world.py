"""A world: everything that is drawn from its number."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from random import Random

from zoo_tinytown.grammar import Grammar, make_grammar
from zoo_tinytown.lexicon import ATTRIBUTES, FORMS, Lexicon, make_lexicon

PARTS = ("format", "topic", "tone", "length", "mention", "start", "end", "fact", "consistency")
"""What gold looks at in an answer, besides whether it is made of sentences at all."""


@dataclass(frozen=True, repr=False)
class World:
    """One world of the family."""

    number: int
    lexicon: Lexicon
    grammar: Grammar
    costs: Mapping[str, float]
    """By part: the share of gold that an answer loses when it violates that part wholly."""
    ease: Mapping[str, float]
    """By part: how much more or less often than the others writers heed it."""
    habit_form: str
    """The kind of sentence that careless writers use whatever was asked."""
    habit_length: int
    """Their number of sentences."""
    habit_topic: str
    """What they talk about."""
    facts: Mapping[tuple[str, str], str]
    """By thing and attribute: the value that is true in this world."""

    def __repr__(self) -> str:
        return f"World({self.number})"


@cache
def get_world(number: int) -> World:
    """Make the world of that number: the same one on every machine."""
    rng = stream(number, "world")
    lexicon = make_lexicon(rng)
    questions = [(thing, attribute) for thing in lexicon.topic_of for attribute in ATTRIBUTES]
    return World(
        number=number,
        lexicon=lexicon,
        grammar=make_grammar(rng, lexicon),
        costs={part: round(rng.uniform(0.3, 0.5), 3) for part in PARTS},
        ease={part: round(rng.uniform(0.85, 1.15), 3) for part in PARTS},
        habit_form=rng.choice(list(FORMS)),
        habit_length=rng.choice((2, 3)),
        habit_topic=rng.choice(lexicon.board_topics),
        facts={(t, a): rng.choice(lexicon.values[a]) for t, a in questions},
    )


def stream(number: int, *purpose: object) -> Random:
    """Return the random numbers of a world for one purpose; other purposes do not move them."""
    return Random("/".join(map(str, ("tinytown", number, *purpose))))
