"""Data sets in TRL's types, checked row by row, split and limited the same way for every algorithm.

A text is a string (standard) or a list of {"role", "content"} messages (conversational). Prompts are split by the
hash of their first user turn, so that no conversation stands in two splits: 10 % test (fixed), 10 % of the rest dev
(drawn by the seed), what remains is trained on.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from zoo_core.errors import DataError
from zoo_core.files import Row
from zoo_core.hookspecs import Kind
from zoo_core.plugins import plugins

Message = Mapping[str, str]
Text = str | Sequence[Message]
ROLES = ("system", "user", "assistant", "tool")
TEST_SHARE = DEV_SHARE = 0.1


@dataclass(frozen=True)
class Prompt:
    """A prompt to answer."""

    prompt: Text
    where: str


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


def load_rows(ref: str, kind: Kind, seed: int, limit: int | None = None) -> list[DataRow]:
    """Return the rows of a data set for a cell's seed; `DataError` names the row that is wrong.

    `limit` keeps a nested subset: the first `limit` rows in an order drawn by the seed, the same for every algorithm.
    """
    rows = plugins().first("zoo_load_dataset", ref=ref, kind=kind, seed=seed)
    if rows is None and kind in ("dev_prompts", "test_prompts"):
        split = "dev" if kind == "dev_prompts" else "test"
        return _drawn(_in_split(load_all(ref, "prompts", seed), split, seed, ref), seed)
    rows = None if rows is None else list(rows)
    parsed = _parse_all(ref, kind, rows)
    if rows and all(isinstance(row, Row) for row in rows):  # a user's file; a world's rows are split by the world
        parsed = _in_split(parsed, "train", seed, ref)
    return _drawn(parsed, seed)[:limit]


def load_all(ref: str, kind: Kind, seed: int) -> list[DataRow]:
    """Return every row of a data set, unsplit, in its own order."""
    return _parse_all(ref, kind, plugins().first("zoo_load_dataset", ref=ref, kind=kind, seed=seed))


def _parse_all(ref: str, kind: Kind, rows: Iterable[Mapping[str, object]] | None) -> list[DataRow]:
    if rows is None:
        raise DataError(
            f"{ref!r} is neither a file, a saved data set, a hub id nor a data set of an installed plugin. "
            "`zoo plugins` lists the plugins."
        )
    readers: dict[str, Callable[[Mapping[str, object], str], DataRow]] = {
        "demonstrations": demonstration,
        "preferences": preference,
    }
    parse = readers.get(kind, prompt_only)
    return [parse(row, getattr(row, "where", f"{ref} row {number}")) for number, row in enumerate(rows)]


def demonstration(row: Mapping[str, object], where: str) -> Demonstration:
    """Read TRL's prompt-completion, language-modelling ("text") or conversational ("messages") type."""
    if "text" in row and "prompt" not in row:
        return Demonstration("", _text(row, "text", where), where)
    if "messages" in row and "prompt" not in row:
        messages = _text(row, "messages", where)
        if isinstance(messages, str) or messages[-1]["role"] != "assistant":
            raise DataError(f"{where}: 'messages' must be a list that ends with an assistant's message to imitate.")
        return Demonstration(messages[:-1], messages[-1:], where)
    _need(row, ("prompt", "completion"), "a demonstration", where)
    prompt, completion = _text(row, "prompt", where), _text(row, "completion", where)
    _same_form(prompt, completion, "prompt", "completion", where)
    return Demonstration(prompt, completion, where)


def preference(row: Mapping[str, object], where: str) -> Preference:
    """Read TRL's preference type, with an explicit prompt or one implied by the common beginning."""
    _need(row, ("chosen", "rejected"), "a preference", where)
    chosen, rejected = _text(row, "chosen", where), _text(row, "rejected", where)
    _same_form(chosen, rejected, "chosen", "rejected", where)
    if "prompt" in row:
        prompt = _text(row, "prompt", where)
        _same_form(prompt, chosen, "prompt", "chosen", where)
    else:
        shared = _shared_beginning(chosen, rejected)
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
        if not prompt or not chosen or not rejected:
            raise DataError(
                f"{where}: there is no 'prompt', and chosen and rejected do not share a beginning that could be it; "
                "add a 'prompt'."
            )
    return Preference(prompt, chosen, rejected, where)


def prompt_only(row: Mapping[str, object], where: str) -> Prompt:
    """Read TRL's prompt-only type; preference rows and prompt-completion rows serve too, by their prompt."""
    if "prompt" not in row and "chosen" in row:
        return Prompt(preference(row, where).prompt, where)
    _need(row, ("prompt",), "a prompt", where)
    return Prompt(_text(row, "prompt", where), where)


def canonical(row: DataRow) -> str:
    """Return the row's content as one string, whatever file it came from."""
    content = {name: value for name, value in vars(row).items() if name != "where"}
    return json.dumps(content, sort_keys=True, ensure_ascii=False, default=list)


def fingerprint(rows: Iterable[DataRow]) -> str:
    """SHA-256 over the rows' content and order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(canonical(row).encode() + b"\n")
    return digest.hexdigest()


def split_of(prompt: Text, seed: int) -> str:
    """Return "test", "dev" or "train" for a prompt; test does not depend on the seed."""
    normal = _first_turn(prompt)
    if _hash(f"test\n{normal}") < TEST_SHARE:
        return "test"
    return "dev" if _hash(f"dev {seed}\n{normal}") < DEV_SHARE else "train"


def in_first_half(prompt: Text) -> bool:
    """Whether a prompt falls into the first of two halves, by its first user turn."""
    return _hash(f"half\n{_first_turn(prompt)}") < 0.5


def load_unseen(ref: str, seed: int, limit: int | None) -> list[DataRow]:
    """Return pairs that no algorithm of a seed learns from: a file's test split, or a world's rows past the limit."""
    rows = plugins().first("zoo_load_dataset", ref=ref, kind="preferences", seed=seed)
    rows = None if rows is None else list(rows)
    if rows and all(isinstance(row, Row) for row in rows):
        return _in_split(_parse_all(ref, "preferences", rows), "test", seed, ref)
    return [] if limit is None else _drawn(_parse_all(ref, "preferences", rows), seed)[limit:]


def _first_turn(prompt: Text) -> str:
    first = prompt if isinstance(prompt, str) else next((m["content"] for m in prompt if m["role"] == "user"), "")
    return " ".join(first.split()).lower()


def _in_split(rows: Sequence[DataRow], split: str, seed: int, ref: str) -> list[DataRow]:
    kept = [row for row in rows if (row.prompt == "" and split == "train") or split_of(row.prompt, seed) == split]
    if not kept:
        raise DataError(
            f"{ref}: none of its {len(rows)} rows falls into the {split} split (10 % of the prompts are kept for "
            "the test, 10 % for dev); give at least about 50 rows with different first turns."
        )
    return kept


def _drawn(rows: Sequence[DataRow], seed: int) -> list[DataRow]:
    """Put rows in the order that a seed draws."""
    return sorted(rows, key=lambda row: _hash(f"{seed}\n{canonical(row)}"))


def _hash(text: str) -> float:
    """Return a number in [0, 1) drawn by the text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64


def _need(row: Mapping[str, object], names: Sequence[str], what: str, where: str) -> None:
    for name in names:
        if row.get(name) is None:
            has = ", ".join(map(str, row)) or "nothing"
            raise DataError(f"{where}: the row has no {name!r}; {what} needs {', '.join(names)}. It has: {has}.")


def _text(row: Mapping[str, object], name: str, where: str) -> Text:
    value = row[name]
    if isinstance(value, str):
        if not value.strip():
            raise DataError(f"{where}: {name!r} is empty; remove the row or fill it in.")
        return value
    if not isinstance(value, list) or not value:
        raise DataError(
            f"{where}: {name!r} must be a string or a list of messages, it is {type(value).__name__} ({value!r})."
        )
    for message in value:
        good = isinstance(message, Mapping) and message.get("role") in ROLES
        if not good or not isinstance(message.get("content"), str):
            raise DataError(
                f"{where}: {name!r} holds {message!r}; a message needs a 'role' ({', '.join(ROLES)}) and a 'content'."
            )
    return [{"role": message["role"], "content": message["content"]} for message in value]


def _same_form(one: Text, other: Text, name: str, other_name: str, where: str) -> None:
    if isinstance(one, str) != isinstance(other, str):
        raise DataError(
            f"{where}: {name!r} is {'text' if isinstance(one, str) else 'a conversation'} but {other_name!r} is not; "
            "a row must be all text or all messages."
        )


def _shared_beginning(one: Text, other: Text) -> int:
    shared = 0
    while shared < min(len(one), len(other)) and one[shared] == other[shared]:
        shared += 1
    # A space belongs to the answer that follows it (TRL's rule for implicit prompts).
    return shared - 1 if isinstance(one, str) and shared and one[shared - 1] == " " else shared
