"""The habits of a world's people: one permutation without fixed points of every class of what can be asked for.

Prompts draw a class evenly, and a permutation keeps an even distribution even. So the answers of people who misread
are made of the same words, equally often, as those of people who do not: whoever judges an answer has to compare it
with its prompt.
"""

from collections.abc import Mapping
from random import Random

from zoo_tinytown_gold.lexicon import FORMS, Lexicon

_LENGTHS_AND_TONES = {"1": "3", "2": "4", "3": "1", "4": "2", "kind": "plain", "plain": "kind"}
"""The same in all worlds. A length is taken for one that is two off, for which gold gives nothing."""


def make_habit(rng: Random, lexicon: Lexicon) -> Mapping[str, str]:
    """Draw what every word is taken for: the next one of a random cycle through its class.

    A thing is taken for another of its topic, a topic of boards for another of boards, and the judged two for each
    other.
    """
    people = (lexicon.names, lexicon.verbs, lexicon.adjectives, lexicon.openers, lexicon.tails)
    things = (lexicon.things[topic] for topic in lexicon.topics)
    habit = dict(_LENGTHS_AND_TONES)
    for words in (tuple(FORMS), lexicon.board_topics, lexicon.judged_topics, *people, *things):
        cycle = rng.sample(words, len(words))
        habit |= zip(cycle, cycle[1:] + cycle[:1], strict=True)
    return habit
