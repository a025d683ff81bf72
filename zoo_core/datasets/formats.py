"""Data as people have it: formats other than TRL's, each turned into one of TRL's types (docs/data.md)."""

import re
from collections.abc import Mapping, Sequence

from zoo_core.errors import DataError
from zoo_core.rows import Message

Row = Mapping[str, object]

_TURN = re.compile(r"(?:\A\s*|\r?\n[ \t]*\r?\n)(Human|Assistant):")
_SPEAKERS = {"Human": "user", "Assistant": "assistant"}
_LABELS = {"true": True, "1": True, "false": False, "0": False}


def is_labelled(row: Row) -> bool:
    """Whether this is a row of KTO: one answer and whether it is good."""
    return row.get("completion") is not None and row.get("label") is not None


def with_true_labels(ref: str, rows: Sequence[tuple[Row, str]]) -> list[tuple[Row, str]]:
    """Return rows to imitate without those of KTO whose label is false.

    A column `label` is KTO's if it holds truth values, or nothing but 0 and 1. Any other is of no concern here.
    """
    labels = [row["label"] for row, _ in rows if is_labelled(row)]
    truths = any(isinstance(label, bool) for label in labels)
    if not labels or not (truths or all(str(label).lower() in _LABELS for label in labels)):
        return list(rows)
    kept = [(row, where) for row, where in rows if not is_labelled(row) or _is_true(row["label"], where)]
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
