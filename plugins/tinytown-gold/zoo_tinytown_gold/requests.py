"""The language of instructions: requests, written as text and read back from text."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import Literal

from zoo_core.errors import DataError
from zoo_tinytown_gold.lexicon import FORMS, PLURALS, Lexicon
from zoo_tinytown_gold.world import World, stream

Split = Literal["train", "dev", "test"]
Combination = tuple[str, int, str, int, int, int, bool]
WORD_PARTS = ("mention", "start", "end")
"""The parts that name a word, which is to be used, or not to be used."""
MAX_LENGTH = 4
FORBIDDEN_SHARE = 0.5
"""The share of named words that are not to be used. Without them, an answer that repeats its prompt is a good one."""


@dataclass(frozen=True)
class Request:
    """The request of one prompt. An absent constraint is the empty string."""

    form: str
    length: int
    """Number of sentences."""
    topic: str
    tone: str = ""
    """"kind", "plain" or no word about it; rude text is never right."""
    mention: str = ""
    start: str = ""
    end: str = ""
    fact: tuple[str, str] | None = None
    """A name and its adjective: the answer must be about that name and agree."""
    forbidden: frozenset[str] = frozenset()
    """Those of `WORD_PARTS` whose word must not be used there."""

    @property
    def combination(self) -> Combination:
        """Return the combination of constraints in this request. Splits never share a combination."""
        mention, start, end = (-1 if part in self.forbidden else int(bool(getattr(self, part))) for part in WORD_PARTS)
        return self.form, self.length, self.tone, mention, start, end, self.fact is not None


def draw_request(world: World, rng: Random, *, topics: Sequence[str] = (), extras: int = 2) -> Request:
    """Draw a request about one of the topics (else of the board) with at least `extras` free constraints."""
    lexicon = world.lexicon
    while True:
        topic = rng.choice(topics or lexicon.board_topics)
        name, adjective, other = rng.choice(lexicon.names), *rng.sample(lexicon.adjectives, 2)
        words = (rng.choice(lexicon.verbs), other, rng.choice(lexicon.things[topic]))
        mention = rng.choices(words, (3, 1, 1))[0]
        request = Request(
            form=rng.choice(list(FORMS)),
            length=rng.randint(1, MAX_LENGTH),
            topic=topic,
            tone=rng.choice(("", "kind", "plain")),
            mention=mention if rng.random() < 0.6 else "",
            start=rng.choice(lexicon.openers) if rng.random() < 0.5 else "",
            end=rng.choice(lexicon.tails) if rng.random() < 0.5 else "",
            fact=(name, adjective) if rng.random() < 0.6 else None,
        )
        asked = [part for part in WORD_PARTS if getattr(request, part)]
        request = replace(request, forbidden=frozenset(p for p in asked if rng.random() < FORBIDDEN_SHARE))
        if len(asked) + bool(request.fact) + bool(request.tone) >= extras:
            return request


def split_of(world: World, request: Request) -> Split:
    """Return the split that the request's combination of constraints belongs to, by hash: 7 : 1 : 2."""
    return _split_of(world.number, request.combination)


@cache
def _split_of(number: int, combination: Combination) -> Split:
    place = int(hashlib.sha256(repr((number, combination)).encode()).hexdigest(), 16) % 10
    return "dev" if place == 0 else "test" if place <= 2 else "train"


def draw_prompts(world: World, split: Split, rng: Random) -> Iterator[tuple[Request, str]]:
    """Yield distinct requests of one split with their texts, without end."""
    seen = set()
    while True:
        request = draw_request(world, rng)
        if split_of(world, request) != split:
            continue
        text = write_request(request, rng)
        if text not in seen:
            seen.add(text)
            yield request, text


def prompts(world: World, split: Split, seed: int, *, use: str = "pool") -> Iterator[tuple[Request, str]]:
    """Yield the prompts of a split in the order of a seed. Each use of a split draws its own prompts."""
    return draw_prompts(world, split, stream(world.number, "prompts", split, seed, use))


def write_request(request: Request, rng: Random) -> str:
    """Put a request into words; `rng` chooses the wording and the order of the clauses."""
    noun = request.form if request.length == 1 else PLURALS[request.form]
    counted = " ".join(filter(None, (str(request.length), request.tone, noun)))
    clauses = [f"{rng.choice(('write', 'give', 'tell'))} {counted} about {request.topic}"]
    for part, wordings in _WORDINGS.items():
        if word := getattr(request, part):
            no = "do not " if part in request.forbidden else ""
            clauses.append(f"{no}{rng.choice(wordings)} {word}")
    if request.fact:
        clauses.append(f"{rng.choice(('', 'they say '))}{request.fact[0]} is {request.fact[1]}")
    rng.shuffle(clauses)
    return " . ".join(clauses) + " ."


_FORM_OF = {word: form for form, plural in PLURALS.items() for word in (form, plural)}
_WORDINGS = {
    "mention": ("mention", "use the word"),
    "start": ("start with", "begin with"),
    "end": ("end with", "finish with"),
}
_CLAUSES = re.compile(
    r"(?:write|give|tell) (?P<length>[1-9]\d?) (?:(?P<tone>kind|plain) )?"
    rf"(?P<form>{'|'.join(_FORM_OF)}) about (?P<topic>\w+)"
    + "".join(rf"|(?P<no_{p}>do not )?(?:{'|'.join(wordings)}) (?P<{p}>\w+)" for p, wordings in _WORDINGS.items())
    + r"|(?:they say )?(?P<name>\w+) is (?P<adjective>\w+)"
)


def parse_request(lexicon: Lexicon, text: str) -> Request:
    """Read a prompt of the world. Raise `DataError` for a text that is not one."""
    found: dict[str, str] = {}
    for clause in filter(None, (part.strip() for part in text.split(" ."))):
        match = _CLAUSES.fullmatch(clause)
        if match is None:
            raise _not_a_prompt(text, f"{clause!r} is not a clause")
        found |= {name: word for name, word in match.groupdict().items() if word}
    if found.get("topic") not in lexicon.topics:
        raise _not_a_prompt(text, f"{found.get('topic', 'nothing')!r} is not a topic")
    return Request(
        form=_FORM_OF[found["form"]],
        length=int(found["length"]),
        topic=found["topic"],
        **{key: found.get(key, "") for key in ("tone", *WORD_PARTS)},
        fact=(found["name"], found["adjective"]) if "name" in found else None,
        forbidden=frozenset(part for part in WORD_PARTS if f"no_{part}" in found),
    )


def _not_a_prompt(text: str, why: str) -> DataError:
    shown = text if len(text) <= 80 else text[:77] + "..."
    return DataError(f"{shown!r} is not a prompt of this world: {why}. Use the prompts of its own data sets.")
