"""Reading rows in TRL's data set types, and in those that formats.py turns into them.

Each row is checked; an error names the row and says what to do.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from zoo_core.datasets.formats import converted, is_labelled, short, with_true_labels
from zoo_core.errors import DataError
from zoo_core.rows import (
    Columns,
    DataRow,
    Demonstration,
    Kind,
    Message,
    Preference,
    Prompt,
    Text,
    answers_of,
    keys,
    slip,
)

_HALF = re.compile("[\ud800-\udfff]")
MANY = 8
"""Number of rows from which on a pattern in a data set is no accident."""
ROLES = ("system", "user", "assistant", "tool")


def parse_rows(ref: str, kind: Kind, rows: Iterable[Mapping[str, object]]) -> list[DataRow]:
    """Read the rows of a data set; `DataError` names a wrong row, by file and line if it has them."""
    given = [(row, Columns(row, getattr(row, "where", f"{ref} row {number}"))) for number, row in enumerate(rows)]
    made = [(converted(row, columns.where)[0], columns) for row, columns in given]
    if kind == "demonstrations":
        made = with_true_labels(ref, made)
    parsed = [replace(one, columns=columns) for row, columns in made for one in _read(kind, row, columns.where)]
    _prompts_are_apart(ref, parsed)
    return parsed


def _read(kind: Kind, row: Mapping[str, object], where: str) -> Sequence[DataRow]:
    if kind == "demonstrations":
        return demonstrations(row, where)
    return [preference(row, where) if kind == "preferences" else prompt_only(row, where)]


def demonstrations(row: Mapping[str, object], where: str) -> list[Demonstration]:
    """Read TRL's prompt-completion, language-modelling ("text") or conversational ("messages") type.

    Each assistant's turn of a conversation becomes one demonstration: an answer to everything before it.
    """
    if not _has(row, "prompt") and _has(row, "text"):
        return [Demonstration("", _text(row, "text", where), where)]
    if not _has(row, "completion") and _has(row, "messages"):  # UltraFeedback has the prompt beside it, as text
        messages = _text(row, "messages", where)
        if isinstance(messages, str):
            raise DataError(f"{where}: 'messages' must be a list of messages, it is a string ({short(messages)}).")
        return _turns([], messages, "messages", where)
    if _has(row, "chosen") and not _has(row, "completion"):
        raise DataError(
            f"{where}: this is a pair and no demonstration; give it under `preferences:`, and leave `demonstrations:` "
            "out to imitate the chosen answers."
        )
    _need(row, ("prompt", "completion"), "a demonstration", where)
    prompt, completion = _apart(_text(row, "prompt", where), _text(row, "completion", where))
    _same_form(prompt, completion, "prompt", "completion", where)
    if isinstance(prompt, str) or isinstance(completion, str):
        return [Demonstration(prompt, completion, where)]
    _begins_with_an_answer(completion, "completion", where)
    return _turns(prompt, completion, "completion", where)


def preference(row: Mapping[str, object], where: str) -> Preference:
    """Read TRL's preference type, with an explicit prompt or one implied by the common beginning.

    The messages that both conversations begin with belong to the prompt; the rest of each must be one answer.
    """
    if is_labelled(row) and not _has(row, "chosen"):
        raise DataError(
            f"{where}: this is one answer with a label (KTO), and a preference has two answers to one prompt; give "
            "'chosen' and 'rejected', or give this file as `demonstrations:`, where answers with a true label are "
            "imitated."
        )
    _need(row, ("chosen", "rejected"), "a preference", where)
    chosen, rejected = _text(row, "chosen", where), _text(row, "rejected", where)
    _same_form(chosen, rejected, "chosen", "rejected", where)
    if _has(row, "prompt"):
        given = _text(row, "prompt", where)
        (prompt, chosen), (_, rejected) = _apart(given, chosen), _apart(given, rejected)
        _same_form(prompt, chosen, "prompt", "chosen", where)
        for name, answer in (("chosen", chosen), ("rejected", rejected)):
            if not isinstance(answer, str):
                _begins_with_an_answer(answer, name, where)
    elif "prompt" not in row and slip(row, "prompt"):
        raise DataError(f"{where}: the row has no 'prompt'. {keys(row, 'prompt')}")
    else:
        prompt = "" if isinstance(chosen, str) else []
    if not prompt or not isinstance(prompt, str):
        shared = _shared_beginning(chosen, rejected)
        prompt, chosen, rejected = _joined(prompt, chosen[:shared]), chosen[shared:], rejected[shared:]
    if not prompt or not chosen or not rejected:
        absent = "'prompt' is null" if "prompt" in row else "there is no 'prompt'"
        same = row["chosen"] == row["rejected"]
        alike = "are the same, so that nothing tells" if same else "do not share a beginning that tells"
        raise DataError(
            f"{where}: {absent}, and chosen and rejected {alike} what it is; add a 'prompt', or remove the row. "
            f"{keys(row, 'prompt')}"
        )
    for name, answer in (("chosen", chosen), ("rejected", rejected)):
        if not isinstance(answer, str):
            _one_answer(answer, name, where)
    return Preference(prompt, chosen, rejected, where)


def prompt_only(row: Mapping[str, object], where: str) -> Prompt:
    """Read TRL's prompt-only type; preference rows and prompt-completion rows serve too, by their prompt."""
    answers = next((name for name in ("chosen", "completion", "messages") if _has(row, name)), "")
    # A text beside conversations is their first turn, as in UltraFeedback; it is asked in the form that they have.
    beside = isinstance(row.get("prompt"), str) and isinstance(row.get(answers), list)
    if answers and (beside or not _has(row, "prompt")):
        return Prompt(preference(row, where).prompt if answers == "chosen" else _last(row, where), where)
    _need(row, ("prompt",), "a prompt", where)
    return Prompt(_text(row, "prompt", where), where)


def _last(row: Mapping[str, object], where: str) -> Text:
    return demonstrations(row, where)[-1].prompt


def _has(row: Mapping[str, object], name: str) -> bool:
    return row.get(name) is not None  # where a table has a column that this row does not use, it is null


def _need(row: Mapping[str, object], names: Sequence[str], what: str, where: str) -> None:
    for name in names:
        if row.get(name) is None:
            needs = f"{what} needs {', '.join(names)}"
            if name in row:
                raise DataError(f"{where}: {name!r} is null; {needs}. Fill it in, or remove the row.")
            raise DataError(f"{where}: the row has no {name!r}; {needs}. {keys(row, name)}")


def _text(row: Mapping[str, object], name: str, where: str) -> Text:
    value = row[name]
    if isinstance(value, str):
        if not value.strip():
            raise DataError(f"{where}: {name!r} is empty; remove the row or fill it in.")
        return _whole(value, name, where)
    if not isinstance(value, list) or not value:
        raise DataError(
            f"{where}: {name!r} must be a string or a list of messages, it is {type(value).__name__} ({short(value)})."
        )
    return [_message(message, name, where) for message in value]


def _message(message: object, name: str, where: str) -> Message:
    if not isinstance(message, Mapping) or "role" not in message or "content" not in message:
        raise DataError(f"{where}: {name!r} holds {short(message)}; a message needs a 'role' and a 'content'.")
    role, content = message["role"], message["content"]
    if role not in ROLES:
        raise DataError(f"{where}: {name!r} holds a message of the role {role!r}; known roles are {', '.join(ROLES)}.")
    if isinstance(content, list):
        content = "".join(_part(part, name, where) for part in content)
    if not isinstance(content, str):
        raise DataError(
            f"{where}: {name!r} holds a message whose 'content' is {short(content)}; it must be text, or a list of "
            "text parts."
        )
    return {"role": role, "content": _whole(content, name, where)}


def _part(part: object, name: str, where: str) -> str:
    """Return the text of a part of a message, as OpenAI and TRL write it: {"type": "text", "text": ...}."""
    kind = part.get("type") if isinstance(part, Mapping) else None
    if isinstance(part, Mapping) and kind in ("text", None) and isinstance(part.get("text"), str):
        return str(part["text"])
    raise DataError(
        f"{where}: {name!r} holds a message with a part that is no text ({short(part)}); models here read text only."
    )


def _whole(text: str, name: str, where: str) -> str:
    """Return the text; `DataError` if it holds half of a surrogate pair, which no tokenizer and no file can."""
    half = _HALF.search(text)
    if half:
        raise DataError(
            f"{where}: {name!r} has half of a surrogate pair (\\u{ord(half[0]):04x}) at character {half.start()}, as "
            "cutting escaped text leaves it; remove it, or put \\ufffd in its place."
        )
    return text


def _same_form(one: Text, other: Text, name: str, other_name: str, where: str) -> None:
    if isinstance(one, str) != isinstance(other, str):
        raise DataError(
            f"{where}: {name!r} is {'text' if isinstance(one, str) else 'a conversation'} but {other_name!r} is not; "
            "a row must be all text or all messages."
        )


def _apart(prompt: Text, answer: Text) -> tuple[Text, Text]:
    """Return prompt and answer, without the prompt in an answer that repeats all of it, as whole conversations do."""
    if isinstance(answer, str):
        return prompt, answer
    if isinstance(prompt, str):
        asked = [message["content"].strip() for message in answer if message["role"] != "system"][:1]
        end = next((n for n, message in enumerate(answer) if message["role"] == "user"), 0) + 1
        if answer[end - 1]["role"] == "user" and asked == [prompt.strip()]:
            return answer[:end], answer[end:]
        return prompt, answer
    again = len(answer) > len(prompt) and list(answer[: len(prompt)]) == list(prompt)
    return prompt, answer[len(prompt) :] if again else answer


def _turns(prompt: Sequence[Message], messages: Sequence[Message], name: str, where: str) -> list[Demonstration]:
    """Return each assistant's turn as an answer to everything before it, except a greeting, which has no prompt."""
    whole = [*prompt, *messages]
    if whole[-1]["role"] != "assistant":
        raise DataError(f"{where}: {name!r} must be a list that ends with an assistant's message to imitate.")
    answers = [n for n in range(len(prompt), len(whole)) if whole[n]["role"] == "assistant" and n > 0]
    if not answers:
        raise DataError(f"{where}: {name!r} has nothing before the assistant's message that it could be an answer to.")
    for place in answers:
        _one_answer(whole[place : place + 1], name, where)
    return [
        Demonstration(
            whole[:place],
            whole[place : place + 1],
            where if len(answers) == 1 else f"{where} (answer {number} of {len(answers)})",
        )
        for number, place in enumerate(answers, start=1)
    ]


def _begins_with_an_answer(answer: Sequence[Message], name: str, where: str) -> None:
    first = answer[0]["role"]
    if first != "assistant":
        raise DataError(
            f"{where}: {name!r} begins with a message of the role {first!r} that is not the prompt's; an answer begins "
            "with the assistant's message. Put what comes before it into 'prompt'."
        )


def _one_answer(answer: Sequence[Message], name: str, where: str) -> None:
    """Raise `DataError` unless the answer is one message of the assistant that is not empty."""
    _begins_with_an_answer(answer, name, where)
    if len(answer) > 1:
        raise DataError(
            f"{where}: {name!r} has {len(answer)} messages of its own ({', '.join(m['role'] for m in answer)}); an "
            "answer is one message of the assistant. Cut both behind the first in which they differ."
        )
    if not answer[0]["content"].strip():
        raise DataError(f"{where}: {name!r} is empty; remove the row or fill it in.")


def _prompts_are_apart(ref: str, rows: Sequence[DataRow]) -> None:
    """Raise `DataError` if most answers of a data set of plain text repeat their prompts."""
    plain = [row for row in rows if isinstance(row.prompt, str) and row.prompt and not isinstance(row, Prompt)]
    again = [row for row in plain if all(str(answer).startswith(str(row.prompt)) for answer in answers_of(row))]
    if len(again) > len(plain) / 2 and len(again) >= MANY:
        raise DataError(
            f"{again[0].where}: the answer begins with the whole prompt, as those of {len(again)} of the {len(plain)} "
            f"rows of {ref} do, so the prompt would be learnt and asked twice. Take it off the answers."
        )


def _joined(prompt: Text, more: Text) -> Text:
    return prompt + more if isinstance(prompt, str) and isinstance(more, str) else [*prompt, *more]


def _shared_beginning(one: Text, other: Text) -> int:
    """Return how many characters or messages two answers share at their beginning; each message list keeps its last."""
    shared = 0
    while shared < min(len(one), len(other)) and one[shared] == other[shared]:
        shared += 1
    if not isinstance(one, str):
        return min(shared, len(one) - 1, len(other) - 1)
    # A space belongs to the answer that follows it (TRL's rule for implicit prompts).
    return shared - 1 if shared and one[shared - 1] == " " else shared
