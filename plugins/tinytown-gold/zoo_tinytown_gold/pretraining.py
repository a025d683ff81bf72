"""The text that a base model is trained on: questions and answers of its world, step by step."""

from collections.abc import Iterator
from random import Random

from zoo_tinytown_gold.judgements import draw_judgement
from zoo_tinytown_gold.knowledge import SUM_WORDINGS, draw_fact, sum_question, sums
from zoo_tinytown_gold.requests import draw_prompts
from zoo_tinytown_gold.world import World, stream
from zoo_tinytown_gold.writers import write_skilled

SKILLS = {0.2: 0.45, 0.45: 0.4, 0.75: 0.15}
"""The skills of the writers whose answers the base model learns from, with their shares."""
SCHOOL_SKILL = 0.97
"""The skill behind the answers in school, the first part of training: there the model learns to read."""
SHARES = {"answer": 0.52, "fact": 0.1, "sum": 0.1, "judgement": 0.28}
"""The kinds of documents, with their shares."""


def draw_skill(skills: dict[float, float], rng: Random) -> float:
    """Draw a writer from a table of skills and their shares."""
    return rng.choices(list(skills), list(skills.values()))[0]


def documents(world: World, step: int, count: int, *, school: bool = False) -> Iterator[tuple[str, str, str]]:
    """Yield the documents of one training step: their kind, the user's words and the answer."""
    rng = stream(world.number, "pretraining", step)
    prompts = draw_prompts(world, "train", rng)
    known_sums = sums(world, held_out=False)
    for _ in range(count):
        kind = rng.choices(list(SHARES), list(SHARES.values()))[0]
        if kind == "answer":
            request, text = next(prompts)
            skill = SCHOOL_SKILL if school else draw_skill(SKILLS, rng)
            yield kind, text, write_skilled(world, request, rng, skill)
        elif kind == "fact":
            yield kind, *draw_fact(world, rng)
        elif kind == "sum":
            text, result = rng.choice(known_sums)
            yield kind, sum_question(text, rng.randrange(len(SUM_WORDINGS))), str(result)
        else:
            yield kind, *draw_judgement(world, rng)
