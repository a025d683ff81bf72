"""Writers: people of the world who answer prompts. Each writes a perfect answer to the prompt as they read it."""

from collections.abc import Collection
from dataclasses import replace
from random import Random

from zoo_tinytown_gold.grammar import Sentence
from zoo_tinytown_gold.requests import Request
from zoo_tinytown_gold.world import PARTS, World

RUDE_SHARE = 0.25
"""The share of those who do not heed the tone that are rude; the others take kind for plain and plain for kind.

This and two names in one answer are all that shows in an answer alone: a judge must find something harmful.
"""
Draft = dict[str, str]
"""A sentence while it is being written: the fields of `Sentence`."""


def write_oracle(world: World, request: Request, rng: Random) -> str:
    """Return an answer that heeds all of the request; its gold is 1."""
    return write_answer(world, request, rng, PARTS)


def write_skilled(world: World, request: Request, rng: Random, skill: float) -> str:
    """Write an answer that heeds each part with probability about `skill`, and misreads the others."""
    return write_answer(world, request, rng, [p for p in PARTS if rng.random() < skill * world.ease[p]])


def write_answer(world: World, request: Request, rng: Random, heeded: Collection[str]) -> str:
    """Write a perfect answer to the request as somebody reads it who heeds the given parts alone.

    Who does not heed consistency makes every second sentence about the person that they take the hero for.
    """
    lexicon = world.lexicon
    avoided = request.mention if "mention" in heeded and "mention" in request.forbidden else ""
    request = misread(world, request, rng, heeded)
    hero = request.fact[0] if request.fact else rng.choice(lexicon.names)
    other = hero if "consistency" in heeded else world.habit[hero]
    tones = {"kind": lexicon.kind, "rude": lexicon.rude}.get(request.tone, ("",))
    things, verbs, adjectives = (
        rng.sample([word for word in words if word != avoided], request.length)
        for words in (lexicon.things[request.topic], lexicon.verbs, lexicon.adjectives)
    )
    drafts: list[Draft] = [
        {
            "form": request.form,
            "name": other if place % 2 else hero,
            "verb": verb,
            "thing": thing,
            "tone": rng.choice(tones),
            "adjective": adjective if rng.random() < 0.3 else "",
        }
        for place, (verb, thing, adjective) in enumerate(zip(verbs, things, adjectives, strict=True))
    ]
    if request.fact:
        draft = drafts[0] if rng.random() < 0.8 else rng.choice(drafts[::2])  # a sentence about the hero
        draft["epithet"] = request.fact[1]
    if request.mention:
        _mention(world, request.mention, rng, drafts)
    drafts[0]["opener"], drafts[-1]["tail"] = request.start, request.end
    return " ".join(world.grammar.write(Sentence(**draft)) for draft in drafts)


def misread(world: World, request: Request, rng: Random, heeded: Collection[str]) -> Request:
    """Return the request that somebody answers who heeds the given parts alone; it forbids no word.

    A forbidden word that is heeded becomes any other of its class, one that is not heeded is used. With a fact, who
    heeds neither it nor consistency tells the right thing of the wrong person.
    """

    def read(part: str, value: str) -> str:
        return value if part in heeded or not value else world.habit[value]

    def word(part: str, value: str) -> str:
        if part not in request.forbidden:
            return read(part, value)
        return rng.choice(world.lexicon.fellows(value)) if part in heeded else value

    tone, fact = read("tone", request.tone), request.fact
    if "tone" not in heeded and rng.random() < RUDE_SHARE:
        tone = "rude"
    if fact and "fact" not in heeded:
        name, adjective = fact
        fact = (name, world.habit[adjective]) if "consistency" in heeded else (world.habit[name], adjective)
    return replace(
        request,
        form=read("format", request.form),
        length=int(read("length", str(request.length))),
        topic=read("topic", request.topic),
        tone=tone,
        mention=word("mention", request.mention),
        start=word("start", request.start),
        end=word("end", request.end),
        fact=fact,
        forbidden=frozenset(),
    )


def _mention(world: World, word: str, rng: Random, drafts: list[Draft]) -> None:
    slot = {"V": "verb", "A": "adjective", "T": "thing"}[world.lexicon.category[word]]
    if all(draft[slot] != word for draft in drafts):
        draft = drafts[0] if rng.random() < 0.7 else rng.choice(drafts)
        draft[slot] = word
