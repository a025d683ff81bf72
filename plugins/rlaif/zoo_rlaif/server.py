"""A judge on a server that speaks the OpenAI API.

Verdicts are read from the log-probabilities of the tokens it wrote, where it gives them; from its text otherwise. What
it said is kept on disk by everything the answer depends on, so a run that is repeated asks nothing twice.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import openai
from openai.types.chat import ChatCompletion

from zoo_core.errors import SpecError
from zoo_core.judge import Verdict, Written
from zoo_core.rows import Text
from zoo_core.storage.atomic import write_text

FORM = "openai:http://localhost:8000/v1?parameters=7e9#model-name"
VERDICT_TOKENS = 16
"""A judge that has not come to an answer by then is not going to."""
ALTERNATIVES = 20
"""Tokens whose log-probability is asked for at each place; the API allows no more."""
CERTAIN = 30.0
"""Nats between the answer that a text gives and the others: it says which, and not how surely."""
LETTERS_PER_TOKEN = 3
"""For the price of a call on a server that does not count tokens; most tokenizers have more."""

Place = dict[str, float]
"""log P of the likeliest tokens at one place of what the judge wrote; the one it wrote comes first."""


@dataclass(frozen=True)
class Reply:
    """What the judge wrote."""

    text: str
    places: list[Place]
    """Of each token; empty if the server does not tell."""
    tokens: int
    """Tokens read and written, which are charged."""
    ended: bool = True
    """Whether the judge ended it itself; the server cuts it at the longest length."""


class ServerJudge:
    """A model on a server; `parameters` is its size, None if it is not known: then a run is flagged as unpriced."""

    constitution: Path | None = None

    def __init__(
        self, url: str, model: str, parameters: int | None = None, *, seconds: float = 60.0, retries: int = 5
    ) -> None:
        self.url, self.model, self.parameters, self.tokens = url, model, parameters, 0
        self._gives_logprobs = True
        token = os.environ.get("OPENAI_API_KEY") or "none"  # the client insists on one; local servers do not read it
        # The client waits twice as long before every retry of what may yet succeed: 408, 409, 429, 5xx, no connection.
        self._client = openai.OpenAI(base_url=url, api_key=token, timeout=seconds, max_retries=retries)

    @classmethod
    def from_ref(cls, ref: str) -> "ServerJudge":
        """Read `openai:URL[?parameters=SIZE]#MODEL`."""
        try:
            parts = urlsplit(ref.partition(":")[2])
            options = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
            (size,) = options.pop("parameters", ["0"])
            parameters = int(float(size)) or None
        except (ValueError, OverflowError):
            raise SpecError(f"judge: {ref!r} cannot be read; write it like {FORM}.") from None
        if parts.scheme not in ("http", "https") or not parts.netloc or not parts.fragment or options:
            raise SpecError(f"judge: {ref!r} is not of the form {FORM}.")
        return cls(f"{parts.scheme}://{parts.netloc}{parts.path}", parts.fragment, parameters)

    def verdicts(self, questions: Sequence[Text], answers: Sequence[str]) -> list[Verdict]:
        """Ask which of the answers it is; None where the judge says none of them, or more than one."""
        replies = self._ask([(question, VERDICT_TOKENS, 0.0, 0) for question in questions], logprobs=True)
        return [read(reply, answers) for reply in replies]

    def write(self, questions: Sequence[Text], longest: int, temperature: float, seed: int) -> list[Written]:
        """Let it write."""
        asked = [(question, longest, temperature, seed + number) for number, question in enumerate(questions)]
        return [Written(reply.text.strip(), reply.ended) for reply in self._ask(asked, logprobs=False)]

    def _ask(self, asked: Sequence[tuple[Text, int, float, int]], logprobs: bool) -> list[Reply]:
        """Ask eight at a time. Kept replies are charged like fresh ones: results must not depend on what is on disk."""

        def ask(one: tuple[Text, int, float, int]) -> Reply:
            return self._kept(*one, logprobs)

        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(ask, asked))
        self.tokens += sum(reply.tokens for reply in replies)
        return replies

    def _kept(self, question: Text, longest: int, temperature: float, seed: int, logprobs: bool) -> Reply:
        messages = [{"role": "user", "content": question}] if isinstance(question, str) else list(map(dict, question))
        request: dict[str, Any] = {
            "model": self.model,
            "messages": messages,
            "max_completion_tokens": longest,
            "temperature": temperature,
            "seed": seed % 2**31,
        }
        key = json.dumps([self.url, request, logprobs], sort_keys=True)
        digest = hashlib.sha256(key.encode()).hexdigest()
        file = cache() / digest[:2] / f"{digest}.json"
        if file.is_file():
            kept = json.loads(file.read_text(encoding="utf-8"))
            if "ended" in kept:  # one that was kept before replies said so is asked for anew
                return Reply(**kept)
        reply = self._reply(request, logprobs)
        write_text(file, json.dumps(asdict(reply), ensure_ascii=False))
        return reply

    def _reply(self, request: dict[str, Any], logprobs: bool) -> Reply:
        extra: dict[str, Any] = (
            {"logprobs": True, "top_logprobs": ALTERNATIVES} if logprobs and self._gives_logprobs else {}
        )
        try:
            answer = self._client.chat.completions.create(**request, **extra)
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            if not extra:
                raise self._failed(error) from None
            # Some servers refuse what they do not know. If it is something else that is wrong, it comes up again.
            self._gives_logprobs = False
            return self._reply(request, logprobs)
        except openai.OpenAIError as error:
            raise self._failed(error) from None
        except json.JSONDecodeError as error:
            raise self._no_completion(error.doc) from None
        # A server that is none sends anything, and the client hands it on.
        if not isinstance(answer, ChatCompletion) or not answer.choices:
            raise self._no_completion(answer)
        choice = answer.choices[0]
        text = choice.message.content or ""
        content = (choice.logprobs and choice.logprobs.content) or []
        places = [
            {place.token: place.logprob} | {top.token: top.logprob for top in place.top_logprobs} for place in content
        ]
        letters = len(json.dumps(request["messages"], ensure_ascii=False)) + len(text)
        tokens = answer.usage.total_tokens if answer.usage else letters // LETTERS_PER_TOKEN + 1
        return Reply(text, places, tokens, choice.finish_reason != "length")

    def _no_completion(self, sent: object) -> SpecError:
        return SpecError(
            f"judge: {self.url} sent something that is no chat completion: {str(sent)[:200]!r}. "
            "Is it the address of a server that speaks the OpenAI API? As a rule it ends in /v1."
        )

    def _failed(self, error: openai.OpenAIError) -> SpecError:
        what = " ".join(str(error).split())[:300]
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            advice = "Set the environment variable OPENAI_API_KEY to a token that it takes."
        elif isinstance(error, openai.NotFoundError):
            advice = f"Is {self.model!r} the name of one of its models, and does its address end in /v1?"
        elif isinstance(error, openai.APIConnectionError):
            advice = "Is it running, and is the address right?"
        else:
            advice = "See the server's log. What was answered so far is kept; run the same command again to go on."
        return SpecError(f"judge: {self.model} at {self.url} did not answer ({what}). {advice}")


def read(reply: Reply, answers: Sequence[str]) -> Verdict:
    """Return the verdict of a reply: from log-probabilities if it has them and they speak of the answers, else text."""
    if reply.places:
        floor = min(reply.places[0].values())
        found = [log_probability(answer, answers, reply.places) for answer in answers]
        if any(one is not None for one in found):
            return [floor if one is None else one for one in found]
    said = spoken(reply.text, answers)
    return None if said is None else [0.0 if answer == said else -CERTAIN for answer in answers]


def log_probability(answer: str, answers: Sequence[str], places: Sequence[Place]) -> float | None:
    """Return log P of a whole answer, letter case and leading spaces aside; None if it is not among what was likely.

    It is followed along the tokens that the judge wrote for as long as they are the answer's. Where the judge went
    another way, the answer's own token is looked up among the alternatives, and the rest of it taken for certain. An
    answer that is the beginning of another ("1" and "10") is only given where the other is not.
    """
    rest, total = answer.strip().casefold(), 0.0
    longer = [other.strip().casefold() for other in answers if other.strip().casefold().startswith(rest)]
    tails = [other[len(rest) :] for other in longer if len(other) > len(rest)]
    for number, place in enumerate(places):
        words = {token: (token.lstrip() if number == 0 else token).casefold() for token in place}
        if not rest:
            goes_on = sum(math.exp(place[token]) for token, word in words.items() if word and _begins(tails, word))
            return total + math.log(max(1 - goes_on, 1e-9))
        fits = {token: word for token, word in words.items() if word.strip() and _begins([rest], word.rstrip())}
        if not fits:
            return None if number == 0 else total + min(place.values())
        written = next(iter(place))
        if written not in fits:
            return total + math.log(sum(math.exp(place[token]) for token in fits))
        total += place[written]
        rest = rest[len(fits[written].rstrip()) :]
    return total if not rest else None


def _begins(wholes: Sequence[str], word: str) -> bool:
    return any(whole.startswith(word) for whole in wholes)


def spoken(text: str, answers: Sequence[str]) -> str | None:
    """Return the one answer that a text names as a word of its own; None if it names none of them, or several."""
    named = [
        answer for answer in answers if re.search(rf"(?<!\w){re.escape(answer.strip())}(?!\w)", text, re.IGNORECASE)
    ]
    return named[0] if len(named) == 1 else None


def cache() -> Path:
    """Return where replies are kept: below $ZOO_CACHE, or ~/.cache/rlhf-zoo."""
    return Path(os.environ.get("ZOO_CACHE") or Path.home() / ".cache" / "rlhf-zoo") / "verdicts"
