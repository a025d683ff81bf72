"""The rows that algorithms learn from, and the texts they are made of.

A text is a string (standard) or a list of {"role", "content"} messages (conversational).
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Message = Mapping[str, str]
Text = str | Sequence[Message]

Kind = Literal["demonstrations", "preferences", "prompts", "dev_prompts", "test_prompts"]
"""What a data set is used for. Only the scoring of a bench asks for `dev_prompts` and `test_prompts`."""


@dataclass(frozen=True)
class Prompt:
    """A prompt to answer."""

    prompt: Text
    where: str
    """Where the row was read, for messages and as its identity in the ledger: "pairs.jsonl:7"."""


@dataclass(frozen=True)
class Demonstration:
    """A prompt and the answer to imitate."""

    prompt: Text
    completion: Text
    where: str


@dataclass(frozen=True)
class Preference:
    """A prompt and two answers, the better one first."""

    prompt: Text
    chosen: Text
    rejected: Text
    where: str


DataRow = Prompt | Demonstration | Preference


def answers_of(row: DataRow) -> list[Text]:
    """Return the answers that a row holds: none of a prompt, the completion, or chosen and rejected."""
    return [getattr(row, name) for name in ("completion", "chosen", "rejected") if hasattr(row, name)]


def canonical(row: DataRow) -> str:
    """Return the content of a row as one string that does not depend on the file it came from."""
    content = {name: value for name, value in vars(row).items() if name != "where"}
    return json.dumps(content, sort_keys=True, ensure_ascii=False, default=list)


def fingerprint(rows: Iterable[DataRow]) -> str:
    """Return a SHA-256 over the content and the order of rows."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(canonical(row).encode() + b"\n")
    return digest.hexdigest()
