"""The knowledge of a world: facts about things, and sums. Pretraining teaches it, the lm-eval tasks test it."""

import hashlib
from random import Random

from zoo_tinytown_gold.lexicon import ATTRIBUTES
from zoo_tinytown_gold.world import World

FACT_WORDINGS = ("what is the {0} of {1} ?", "tell the {0} of {1} .", "which {0} is for {1} ?")
SUM_WORDINGS = ("what is {0} ?", "tell {0} .")
LARGEST = 20


def fact_question(attribute: str, thing: str, wording: int) -> str:
    """Return the question for one attribute of a thing, in one of the `FACT_WORDINGS`."""
    return FACT_WORDINGS[wording].format(attribute, thing)


def sum_question(sum_: str, wording: int) -> str:
    """Return the question for a sum such as "7 plus 5", in one of the `SUM_WORDINGS`."""
    return SUM_WORDINGS[wording].format(sum_)


def sums(world: World, *, held_out: bool) -> list[tuple[str, int]]:
    """Return the sums of numbers up to 20 with their results; a fifth, by hash, is never in pretraining."""
    numbers = range(LARGEST + 1)
    plus = [(f"{a} plus {b}", a + b) for a in numbers for b in numbers]
    minus = [(f"{a} minus {b}", a - b) for a in numbers for b in numbers if b <= a]
    return [(text, result) for text, result in plus + minus if _is_held_out(world, text) == held_out]


def draw_fact(world: World, rng: Random) -> tuple[str, str]:
    """Draw a question about a thing and its answer."""
    thing, attribute = rng.choice(list(world.lexicon.topic_of)), rng.choice(ATTRIBUTES)
    question = fact_question(attribute, thing, rng.randrange(len(FACT_WORDINGS)))
    return question, world.facts[thing, attribute]


def _is_held_out(world: World, text: str) -> bool:
    return hashlib.sha256(f"{world.number}/{text}".encode()).digest()[0] % 5 == 0
