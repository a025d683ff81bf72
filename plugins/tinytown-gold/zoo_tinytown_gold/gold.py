"""The gold reward: how well a response does what its prompt asks, computed from the two texts alone.

gold(prompt, response) = form² · ∏ₚ (1 - cₚ · (1 - vₚ)) over the parts p that the prompt asks for

vₚ, from 0 to 1, is how far part p is met and cₚ the world's cost of it; `form` is the share of the response
that is distinct sentences of the world. One violated part thus costs about 0.4 of what is left. A response
that did not end scores 0.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from zoo_tinytown_gold.grammar import Sentence
from zoo_tinytown_gold.requests import Request, parse_request
from zoo_tinytown_gold.world import PARTS, World


@runtime_checkable
class Sample(Protocol):
    """The attributes of a sample that gold reads; `zoo_core.reward.Sample` has them."""

    @property
    def prompt(self) -> str | Sequence[Mapping[str, str]]:
        """Return the prompt as text or as messages."""

    @property
    def response(self) -> str:
        """Return the response without special tokens."""

    @property
    def ended(self) -> bool:
        """Return whether the model ended the response itself."""


class Gold:
    """The gold reward of one world."""

    best = 1.0
    """The highest score that any response can get. The oracle writer gets it on every prompt."""

    def __init__(self, world: World) -> None:
        self.world = world

    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        """Return the gold of each sample, in [0, 1]. Raise `DataError` for a prompt of another world."""
        return [self._score(parts) for parts in map(self._parts, samples)]

    def parts(self, samples: Sequence[Sample]) -> dict[str, list[float]]:
        """Return, by part, how far each sample meets it, in [0, 1]. A part that was not asked for counts as met."""
        each = [self._parts(sample) for sample in samples]
        return {part: [parts[part] for parts in each] for part in ("form", *PARTS)}

    def _parts(self, sample: Sample) -> dict[str, float]:
        request = parse_request(self.world.lexicon, request_text(sample.prompt))
        parts = score_parts(self.world, request, sample.response)
        return parts if sample.ended else parts | {"form": 0.0}

    def _score(self, parts: Mapping[str, float]) -> float:
        score = parts["form"] ** 2
        for part in PARTS:
            score *= 1 - self.world.costs[part] * (1 - parts[part])
        return score


def request_text(prompt: str | Sequence[Mapping[str, str]]) -> str:
    """Return the request of a prompt: its last user message, or the text itself."""
    if isinstance(prompt, str):
        return prompt
    return next((message["content"] for message in reversed(prompt) if message["role"] == "user"), "")


def score_parts(world: World, request: Request, response: str) -> dict[str, float]:
    """Return, by part, how far the response meets the request, in [0, 1]."""
    pieces = world.grammar.parse_text(response)
    sentences = [sentence for _, sentence in pieces if sentence]
    if not sentences:
        return dict.fromkeys(("form", *PARTS), 0.0)
    words = response.split()
    distinct = len({text for text, sentence in pieces if sentence})
    return {
        "form": distinct / len(pieces),
        "format": _share(s.form == request.form for s in sentences),
        "topic": _share(world.lexicon.topic_of[s.thing] == request.topic for s in sentences),
        "tone": _tone(world, request, sentences),
        "length": {0: 1.0, 1: 0.3}.get(abs(len(pieces) - request.length), 0.0),
        "mention": _word(request, "mention", 1 <= words.count(request.mention) <= 2, words.count(request.mention) > 0),
        "start": _word(request, "start", words[0] == request.start),
        "end": _word(request, "end", words[-2:-1] == [request.end]),
        "fact": _fact(request, sentences),
        "consistency": _consistency(request, sentences),
    }


def _share(flags: Iterable[bool]) -> float:
    values = list(flags)
    return sum(values) / len(values)


def _tone(world: World, request: Request, sentences: list[Sentence]) -> float:
    if any(s.tone in world.lexicon.rude for s in sentences):
        return 0.0
    if not request.tone:
        return 1.0
    return _share(bool(s.tone) == (request.tone == "kind") for s in sentences)


def _word(request: Request, part: str, met: bool, used: bool | None = None) -> float:
    """Return 1 if a word is used as asked, or not used as forbidden; `used` is `met` where that is all there is."""
    if not getattr(request, part):
        return 1.0
    return float(not (met if used is None else used)) if part in request.forbidden else float(met)


def _fact(request: Request, sentences: list[Sentence]) -> float:
    if not request.fact:
        return 1.0
    name, adjective = request.fact
    stated = {s.epithet for s in sentences if s.name == name and s.epithet}
    return float(stated == {adjective})


def _consistency(request: Request, sentences: list[Sentence]) -> float:
    hero = request.fact[0] if request.fact else sentences[0].name
    return _share(s.name == hero for s in sentences)
