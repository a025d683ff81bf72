"""Writers: people of the world who answer prompts, each heeding every constraint more or less often."""

from collections.abc import Collection
from random import Random

from zoo_tinytown.grammar import Sentence
from zoo_tinytown.lexicon import SOMEONE
from zoo_tinytown.requests import MAX_LENGTH, Request
from zoo_tinytown.world import PARTS, World

Draft = dict[str, str]
"""A sentence while it is being written: the fields of `Sentence`."""


def write_oracle(world: World, request: Request, rng: Random) -> str:
    """Return an answer that heeds all of the request; its gold is 1."""
    return write_answer(world, request, rng, PARTS)


def write_skilled(world: World, request: Request, rng: Random, skill: float) -> str:
    """Write an answer that heeds each part with probability about `skill`, by habit otherwise."""
    return write_answer(world, request, rng, [p for p in PARTS if rng.random() < skill * world.ease[p]])


def write_answer(world: World, request: Request, rng: Random, heeded: Collection[str]) -> str:
    """Write an answer that heeds the given parts of the request and follows the world's habits otherwise."""
    lexicon = world.lexicon
    names = _names(world, request, rng, heeded)
    topic = request.topic if "topic" in heeded else world.habit_topic
    things, verbs = rng.sample(lexicon.things[topic], len(names)), rng.sample(lexicon.verbs, len(names))
    adjectives = rng.sample(lexicon.adjectives, len(names))
    drafts: list[Draft] = [
        {
            "form": request.form if "format" in heeded else world.habit_form,
            "name": name,
            "verb": verb,
            "thing": thing,
            "tone": _tone(world, request, rng, heeded),
            "adjective": adjective if rng.random() < 0.3 else "",
        }
        for name, verb, thing, adjective in zip(names, verbs, things, adjectives, strict=True)
    ]
    if request.fact:
        _state_fact(world, request.fact, rng, heeded="fact" in heeded, drafts=drafts)
    if request.mention and "mention" in heeded:
        _mention(world, request, rng, drafts)
    if "start" in heeded:
        drafts[0]["opener"] = request.start
    if "end" in heeded:
        drafts[-1]["tail"] = request.end
    return " ".join(world.grammar.write(Sentence(**draft)) for draft in drafts)


def _names(world: World, request: Request, rng: Random, heeded: Collection[str]) -> list[str]:
    length = request.length
    if "length" not in heeded:
        length = world.habit_length if rng.random() < 0.8 else rng.randint(1, MAX_LENGTH)
    hero = request.fact[0] if request.fact else rng.choice(world.lexicon.names)
    if "consistency" in heeded:
        return [hero] * length
    start = SOMEONE if request.fact or rng.random() < 0.3 else hero
    others = (SOMEONE if rng.random() < 0.8 else rng.choice(world.lexicon.names) for _ in range(length - 1))
    return [start, *others]


def _tone(world: World, request: Request, rng: Random, heeded: Collection[str]) -> str:
    if "tone" not in heeded:
        return rng.choice(world.lexicon.rude)
    return rng.choice(world.lexicon.kind) if request.tone == "kind" else ""


def _state_fact(world: World, fact: tuple[str, str], rng: Random, *, heeded: bool, drafts: list[Draft]) -> None:
    draft = rng.choice(drafts) if rng.random() < 0.2 else drafts[0]
    if heeded:
        draft["name"], draft["epithet"] = fact
    elif rng.random() < 0.25:
        draft["epithet"] = rng.choice(world.lexicon.adjectives)


def _mention(world: World, request: Request, rng: Random, drafts: list[Draft]) -> None:
    slot = {"V": "verb", "A": "adjective", "T": "thing"}[world.lexicon.category[request.mention]]
    if all(draft[slot] != request.mention for draft in drafts):
        draft = drafts[0] if rng.random() < 0.7 else rng.choice(drafts)
        draft[slot] = request.mention
