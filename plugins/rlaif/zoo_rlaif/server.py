"""A judge on a server that speaks the OpenAI API.

Verdicts are read from the log-probabilities of the tokens that the judge wrote, or from its text if the server gives
none. Replies are cached on disk by everything that they depend on, so a repeated run asks nothing twice.
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
"""Largest number of tokens of a verdict. A judge that has not answered by then will not answer."""
ALTERNATIVES = 20
"""Number of tokens whose log-probability is asked for at each place, the most that the API allows."""
CERTAIN = 30.0
"""Nats between the answer in a text and the other answers. A text does not say how certain the judge is."""
LETTERS_PER_TOKEN = 3
"""Estimate for the cost of a call on a server that does not count tokens. Most tokenizers have more letters."""

Place = dict[str, float]
"""log P of the likeliest tokens at one place of a reply. The token that the judge wrote comes first."""


@dataclass(frozen=True)
class Reply:
    """A reply of the judge."""

    text: str
    places: list[Place]
    """The place of each token; empty if the server gives no log-probabilities."""
    tokens: int
    """Number of tokens read and written, which the run is charged for."""
    ended: bool = True
    """Whether the judge ended the text itself; False if the server cut it off at the longest length."""


class ServerJudge:
    """A model on a server as a judge. Without `parameters`, its size, runs are flagged as unpriced."""

    constitution: Path | None = None

    def __init__(
        self, url: str, model: str, parameters: int | None = None, *, seconds: float = 60.0, retries: int = 5
    ) -> None:
        self.url, self.model, self.parameters, self.tokens = url, model, parameters, 0
        self._gives_logprobs = True
        token = os.environ.get("OPENAI_API_KEY") or "none"  # the client insists on one; local servers do not read it
        # The client retries errors that may pass (408, 409, 429, 5xx, no connection) and doubles its wait each time.
        self._client = openai.OpenAI(base_url=url, api_key=token, timeout=seconds, max_retries=retries)

    @classmethod
    def from_ref(cls, ref: str) -> "ServerJudge":
        """Return the judge that `openai:URL[?parameters=SIZE]#MODEL` names."""
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
        """Return a verdict on each question; None if the judge names no answer, or more than one."""
        replies = self._ask([(question, VERDICT_TOKENS, 0.0, 0) for question in questions], logprobs=True)
        return [read(reply, answers) for reply in replies]

    def write(self, questions: Sequence[Text], longest: int, temperature: float, seed: int) -> list[Written]:
        """Return the judge's text to each question."""
        asked = [(question, longest, temperature, seed + number) for number, question in enumerate(questions)]
        return [Written(reply.text.strip(), reply.ended) for reply in self._ask(asked, logprobs=False)]

    def _ask(self, asked: Sequence[tuple[Text, int, float, int]], logprobs: bool) -> list[Reply]:
        """Send eight requests at a time. Cached replies are charged like new ones: no result depends on the cache."""

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
            if "ended" in kept:  # replies that were cached without this key are asked for anew
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
            # Some servers refuse unknown keys. Another error will come up again.
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
    """Return the verdict of a reply, from log-probabilities if they cover the answers, else from the text."""
    if reply.places:
        floor = min(reply.places[0].values())
        found = [log_probability(answer, answers, reply.places) for answer in answers]
        if any(one is not None for one in found):
            return [floor if one is None else one for one in found]
    said = spoken(reply.text, answers)
    return None if said is None else [0.0 if answer == said else -CERTAIN for answer in answers]


def log_probability(answer: str, answers: Sequence[str], places: Sequence[Place]) -> float | None:
    """Return log P of a whole answer, ignoring case and leading spaces; None if it is not among the likely tokens.

    The sum follows the tokens that the judge wrote as long as they are the answer's. At the first other token, the
    answer's token is looked up among the alternatives, and the rest of the answer counts as certain. An answer that is
    the beginning of another ("1" and "10") counts only if the other does not follow.
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
    """Return the one answer that a text names as a separate word; None if it names none or several."""
    named = [
        answer for answer in answers if re.search(rf"(?<!\w){re.escape(answer.strip())}(?!\w)", text, re.IGNORECASE)
    ]
    return named[0] if len(named) == 1 else None


def cache() -> Path:
    """Return the directory of cached replies: below $ZOO_CACHE, or ~/.cache/rlhf-zoo."""
    return Path(os.environ.get("ZOO_CACHE") or Path.home() / ".cache" / "rlhf-zoo") / "verdicts"
