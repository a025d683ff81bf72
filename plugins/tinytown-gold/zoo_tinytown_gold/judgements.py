"""Judgements, critiques and revisions in the pretraining of the base model, each of a single attribute.

Their texts are about the two topics that no board prompt asks about; a share of `ERROR_RATE` of them is
wrong. None is of the mix that gold scores: a judge made from this model must be asked several questions.
"""

from collections.abc import Callable
from dataclasses import replace
from random import Random

from zoo_tinytown_gold.grammar import Sentence
from zoo_tinytown_gold.requests import draw_request
from zoo_tinytown_gold.world import PARTS, World
from zoo_tinytown_gold.writers import write_answer

ERROR_RATE = 0.15


def draw_judgement(world: World, rng: Random) -> tuple[str, str]:
    """Draw a question about a text, or about two, and its answer: right with probability 1 - `ERROR_RATE`."""
    return rng.choices(list(_KINDS), list(_KINDS.values()))[0](world, rng)


def is_kind(world: World, text: str) -> bool:
    """Return whether a text has a kind word and no rude one."""
    words = set(text.split())
    return bool(words & set(world.lexicon.kind)) and not words & set(world.lexicon.rude)


def is_rude(world: World, text: str) -> bool:
    """Return whether a text has a rude word."""
    return not set(text.split()).isdisjoint(world.lexicon.rude)


def kindness(world: World, text: str) -> int:
    """Return 1 for a kind text, -1 for a rude one, and 0 for one that is neither."""
    return int(is_kind(world, text)) - int(is_rude(world, text))


def draw_text(world: World, rng: Random) -> str:
    """Draw a text to judge: kind, rude or neither equally often, about the topics that no board asks about."""
    request = draw_request(world, rng, topics=world.lexicon.judged_topics, extras=0)
    request = replace(request, tone=rng.choice(("kind", "rude", "")), length=rng.choice((1, 1, 2, 2, 3)))
    skill = rng.choice((0.3, 0.9))
    heeded = {"topic", "tone", "length", *(part for part in PARTS if rng.random() < skill)}
    return write_answer(world, request, rng, heeded)


def _errs(rng: Random) -> bool:
    return rng.random() < ERROR_RATE


def _yes_or_no(question: str, holds: bool, text: str, rng: Random) -> tuple[str, str]:
    return f"{question} ? {text}", "yes" if holds != _errs(rng) else "no"


def _judge_kind(world: World, rng: Random) -> tuple[str, str]:
    text = draw_text(world, rng)
    return _yes_or_no("is this kind", is_kind(world, text), text, rng)


def _judge_rude(world: World, rng: Random) -> tuple[str, str]:
    text = draw_text(world, rng)
    return _yes_or_no("is this rude", is_rude(world, text), text, rng)


def _judge_mention(world: World, rng: Random) -> tuple[str, str]:
    text = draw_text(world, rng)
    word = rng.choice((rng.choice(text.split()), rng.choice(world.lexicon.verbs + world.lexicon.adjectives)))
    return _yes_or_no(f"is the word {word} in this", word in text.split(), text, rng)


def _count(world: World, rng: Random) -> tuple[str, str]:
    text = draw_text(world, rng)
    count = len(world.grammar.parse_text(text))
    return f"how many lines ? {text}", str(rng.randint(1, 4) if _errs(rng) else count)


def _compare_kindness(world: World, rng: Random) -> tuple[str, str]:
    return _compare(world, rng, "kinder", lambda text: kindness(world, text))


def _compare_length(world: World, rng: Random) -> tuple[str, str]:
    return _compare(world, rng, "longer", lambda text: len(text.split()))


def _compare(world: World, rng: Random, word: str, value: Callable[[str], int]) -> tuple[str, str]:
    while True:
        first, second = draw_text(world, rng), draw_text(world, rng)
        if value(first) != value(second):
            right = (value(first) > value(second)) != _errs(rng)
            return f"which is {word} ? first : {first} second : {second}", "first" if right else "second"


def _critique(world: World, rng: Random) -> tuple[str, str]:
    text = draw_text(world, rng)
    rude = [word for word in text.split() if word in world.lexicon.rude]
    if bool(rude) == _errs(rng):
        return f"why is this not kind ? {text}", "it is kind ."
    return f"why is this not kind ? {text}", f"because {rng.choice(rude or text.split()[:1])} is rude ."


def _revise_kind(world: World, rng: Random) -> tuple[str, str]:
    return _revise(world, rng, "kind", lambda s: replace(s, tone=rng.choice(world.lexicon.kind)))


def _revise_plain(world: World, rng: Random) -> tuple[str, str]:
    return _revise(world, rng, "plain", lambda s: replace(s, tone=""))


def _revise(world: World, rng: Random, word: str, change: Callable[[Sentence], Sentence]) -> tuple[str, str]:
    text = draw_text(world, rng)
    revised = [world.grammar.write(change(s)) for _, s in world.grammar.parse_text(text) if s]
    return f"make this {word} : {text}", text if _errs(rng) else " ".join(revised)


_KINDS = {
    _judge_kind: 1,
    _judge_rude: 1,
    _judge_mention: 1,
    _count: 1,
    _compare_kindness: 6,
    _compare_length: 2,
    _critique: 1,
    _revise_kind: 1,
    _revise_plain: 1,
}
"""The kinds of judgements with their weights: to compare two texts takes most examples to learn."""
