"""Data as people have it: formats other than TRL's, each turned into one of TRL's types (docs/data.md)."""

import re
from collections.abc import Mapping, Sequence

from zoo_core.errors import DataError
from zoo_core.rows import Columns, Message

Row = Mapping[str, object]

_TURN = re.compile(r"(?:\A\s*|\r?\n[ \t]*\r?\n)(Human|Assistant):")
_SPEAKERS = {"Human": "user", "Assistant": "assistant"}
_FROM = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
}
"""Who speaks in ShareGPT's rows, and the role."""
_LABELS = {"true": True, "1": True, "false": False, "0": False}


def is_labelled(row: Row) -> bool:
    """Whether this is a row of KTO: one answer and whether it is good."""
    return row.get("completion") is not None and row.get("label") is not None


def with_true_labels(ref: str, rows: Sequence[tuple[Row, Columns]]) -> list[tuple[Row, Columns]]:
    """Return rows to imitate, each with the columns it was made of, without those of KTO whose label is false.

    A column `label` is KTO's if it holds truth values, or nothing but 0 and 1. Any other is of no concern here.
    """
    labels = [row["label"] for row, _ in rows if is_labelled(row)]
    truths = any(isinstance(label, bool) for label in labels)
    if not labels or not (truths or all(str(label).lower() in _LABELS for label in labels)):
        return list(rows)
    kept = [(row, given) for row, given in rows if not is_labelled(row) or _is_true(row["label"], given.where)]
    if not kept:
        raise DataError(
            f"{ref}: none of its {len(rows)} rows has a true 'label' (KTO), so there is no answer to imitate. Give "
            "answers with `label: true`, or rows without a label."
        )
    return kept


def _is_true(label: object, where: str) -> bool:
    truth = _LABELS.get(str(label).lower())
    if truth is None:
        raise DataError(f"{where}: 'label' is {label!r}; as in the other rows, it must be true or false.")
    return truth


def converted(row: Row, where: str) -> tuple[Row, str | None]:
    """Return a row as TRL writes it, and the name of its format; None for the name if it had one of TRL's."""
    if _is_transcript(row):
        return _from_transcripts(row, where), "HH transcripts"
    if isinstance(row.get("conversations"), list) and row.get("messages") is None:
        return _from_conversations(row, where), "ShareGPT"
    if isinstance(row.get("instruction"), str) and row.get("prompt") is None and row.get("messages") is None:
        return _from_instruction(row, where), "Alpaca"
    if isinstance(row.get("prompt"), str) and any(isinstance(row.get(name), list) for name in ("chosen", "messages")):
        return row, "UltraFeedback"  # its parts are taken apart where all answers are that hold their prompts again
    return row, None


def _is_transcript(row: Row) -> bool:
    """Whether this is a pair as HH-RLHF writes it: no prompt, and each side a whole conversation as one string."""
    if row.get("prompt") is not None:
        return False
    sides = [row.get("chosen"), row.get("rejected")]
    return all(isinstance(side, str) for side in sides) and any(_turn_begins(str(side)) for side in sides)


def _turn_begins(text: str) -> bool:
    return _TURN.match(text) is not None


def _from_transcripts(row: Row, where: str) -> Row:
    chosen, rejected = (_turns_of(str(row[name]), name, where) for name in ("chosen", "rejected"))
    for name, turns in (("chosen", chosen), ("rejected", rejected)):
        if turns[-1]["role"] != "assistant":
            raise DataError(
                f"{where}: {name!r} ends with a turn of Human; a transcript must end with the Assistant's answer. "
                "Add the answer, or remove the row."
            )
    if chosen[:-1] != rejected[:-1]:
        number = _first_difference(chosen, rejected)
        raise DataError(
            f"{where}: chosen and rejected differ before the last turn of the Assistant (in turn {number} of "
            f"{len(chosen)} and {len(rejected)}), so they are no two answers to one prompt. Cut both behind the first "
            "turn of the Assistant in which they differ, or remove the row."
        )
    if len(chosen) < 2:
        raise DataError(f"{where}: the transcripts hold one turn; there is no turn of Human before the answer.")
    return {**row, "prompt": chosen[:-1], "chosen": chosen[-1:], "rejected": rejected[-1:]}


def _turns_of(text: str, name: str, where: str) -> list[Message]:
    """Return the turns of a transcript: each begins behind an empty line with "Human:" or "Assistant:"."""
    marks = list(_TURN.finditer(text))
    if not marks or marks[0].start() > 0:
        raise DataError(
            f"{where}: {name!r} does not begin with 'Human:' or 'Assistant:', and the other side does; both must be "
            "transcripts. Mend the row or remove it."
        )
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    return [
        {"role": _SPEAKERS[mark[1]], "content": text[mark.end() : end].strip()}
        for mark, end in zip(marks, ends, strict=True)
    ]


def _first_difference(one: Sequence[Message], other: Sequence[Message]) -> int:
    same = 0
    while same < min(len(one), len(other)) and one[same] == other[same]:
        same += 1
    return same + 1


def _from_conversations(row: Row, where: str) -> Row:
    """Turn "from" and "value" into roles; beside `chosen` and `rejected` the conversation is their prompt."""
    turns = row["conversations"]
    messages = [_spoken(turn, "conversations", where) for turn in (turns if isinstance(turns, list) else [])]
    system = row.get("system")
    if isinstance(system, str) and system.strip():
        messages = [{"role": "system", "content": system}, *messages]
    rest = {name: value for name, value in row.items() if name not in ("conversations", "system")}
    if row.get("chosen") is None or row.get("rejected") is None:
        return {**rest, "messages": messages}
    answers = {name: _answers(row[name], name, where) for name in ("chosen", "rejected")}
    return {**rest, "prompt": messages, **answers}


def _answers(value: object, name: str, where: str) -> object:
    turns = [value] if isinstance(value, Mapping) else value
    return [_spoken(turn, name, where) for turn in turns] if isinstance(turns, list) else turns


def _spoken(turn: object, name: str, where: str) -> object:
    """Return a turn of ShareGPT as a message; what has a role already stays, and is checked with all messages."""
    if not isinstance(turn, Mapping) or "role" in turn:
        return turn
    if "from" not in turn or "value" not in turn:
        raise DataError(f"{where}: {name!r} holds {short(turn)}; a turn of ShareGPT needs a 'from' and a 'value'.")
    if str(turn["from"]) not in _FROM:
        raise DataError(
            f"{where}: {name!r} holds a turn from {turn['from']!r}; known speakers are {', '.join(_FROM)}. Rename it, "
            "or remove the row."
        )
    return {"role": _FROM[turn["from"]], "content": turn["value"]}


def _from_instruction(row: Row, where: str) -> Row:
    """Make one turn of the user from instruction and input, an empty line between them; the output is the answer."""
    parts = [_string(row, name, where) for name in ("instruction", "input")]
    if not parts[0].strip():
        raise DataError(f"{where}: 'instruction' is empty; remove the row or fill it in.")
    system = _string(row, "system", where)
    prompt = [{"role": "system", "content": system}] if system.strip() else []
    for exchange in _exchanges(row, where):
        prompt += [{"role": role, "content": text} for role, text in zip(("user", "assistant"), exchange, strict=True)]
    prompt.append({"role": "user", "content": "\n\n".join(part for part in parts if part.strip())})
    answers = {"output": "completion", "chosen": "chosen", "rejected": "rejected"}
    used = ("instruction", "input", "system", "history", "output")
    made: dict[str, object] = {name: value for name, value in row.items() if name not in used}
    for theirs, ours in answers.items():
        if theirs in row:
            text = None if row[theirs] is None else _string(row, theirs, where)
            made[ours] = text if text is None else [{"role": "assistant", "content": text}]
    return {**made, "prompt": prompt}


def _exchanges(row: Row, where: str) -> list[tuple[str, str]]:
    """Return the earlier turns of an Alpaca row: its `history`, pairs of a question and an answer."""
    history, exchanges = row.get("history") or [], list[tuple[str, str]]()
    for pair in history if isinstance(history, list) else [history]:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise DataError(f"{where}: 'history' holds {short(pair)}; it must be a list of [question, answer].")
        exchanges.append((pair[0], pair[1]))
    return exchanges


def _string(row: Row, name: str, where: str) -> str:
    value = row.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(f"{where}: {name!r} must be text, it is {type(value).__name__} ({short(value)}).")
    return value


def short(value: object) -> str:
    """Return a value as Python writes it, cut to 80 characters, for messages."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
