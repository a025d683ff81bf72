"""The rows that algorithms learn from, and the texts they are made of.

A text is a string (standard) or a list of {"role", "content"} messages (conversational).
"""

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from zoo_core.errors import ColumnError, DataError

Message = Mapping[str, str]
Text = str | Sequence[Message]

Kind = Literal["demonstrations", "preferences", "prompts", "dev_prompts", "test_prompts"]
"""What a data set is used for. Only the scoring of a bench asks for `dev_prompts` and `test_prompts`."""


class Columns(Mapping[str, object]):
    """All columns of a row as its file has them, read-only. Whatever comes from the row shares them."""

    def __init__(
        self, values: Mapping[str, object] | None = None, where: str = "?", disputed: Mapping[str, str] | None = None
    ) -> None:
        self._values = values or {}
        self.where = where
        """Where the row was read."""
        self.disputed = disputed or {}
        """Columns in which another row with the same prompt differs, and where that row was read; see `distinct`."""

    def __getitem__(self, name: str) -> object:
        if name in self.disputed:
            raise DataError(
                f"{self.where} and {self.disputed[name]} have the same prompt and differ in {name!r}, which a reward "
                "reads. A prompt is scored once: keep one of the rows, or put all that is right into one column."
            )
        if name not in self._values:
            raise ColumnError(f"{self.where}: a reward reads {name!r}, which the row does not have. {keys(self, name)}")
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        return name in self._values or name in self.disputed

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._values if name not in self.disputed)

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __repr__(self) -> str:
        return f"Columns({dict(self)})"


@dataclass(frozen=True)
class Prompt:
    """A prompt to answer."""

    prompt: Text
    where: str
    """Where the row was read, for messages and as its identity in the ledger: "pairs.jsonl:7"."""
    columns: Columns = field(default_factory=Columns, compare=False, repr=False)
    """What the row's file says, for rewards. Rows are equal by content and place: one made by hand, and one read."""


@dataclass(frozen=True)
class Demonstration:
    """A prompt and the answer to imitate."""

    prompt: Text
    completion: Text
    where: str
    columns: Columns = field(default_factory=Columns, compare=False, repr=False)


@dataclass(frozen=True)
class Preference:
    """A prompt and two answers, the better one first."""

    prompt: Text
    chosen: Text
    rejected: Text
    where: str
    columns: Columns = field(default_factory=Columns, compare=False, repr=False)


DataRow = Prompt | Demonstration | Preference


def answers_of(row: DataRow) -> list[Text]:
    """Return the answers that a row holds: none of a prompt, the completion, or chosen and rejected."""
    return [getattr(row, name) for name in ("completion", "chosen", "rejected") if hasattr(row, name)]


def keys(row: Mapping[str, object], wanted: str) -> str:
    """Say which columns a row has, and whether one of them looks like a slip of the one that is wanted."""
    has = ", ".join(map(str, row)) or "nothing"
    return f"It has: {has}." + f" Did you mean {wanted!r}?" * bool(slip(row, wanted))


def slip(row: Mapping[str, object], wanted: str) -> list[str]:
    """Return the name of a row that looks like a slip of the one that is wanted."""
    return difflib.get_close_matches(wanted, [str(name) for name in row if name != wanted], n=1, cutoff=0.82)


def distinct(rows: Iterable[DataRow]) -> list[Prompt]:
    """Return every different prompt once, in order, with the columns in which all its rows agree.

    To read any other column is an error, so that no response is held against the answer of one row by chance.
    """
    found: dict[str, Prompt] = {}
    for row in rows:
        first = found.setdefault(repr(row.prompt), Prompt(row.prompt, row.where, row.columns))
        if first.columns is not row.columns:
            found[repr(row.prompt)] = Prompt(first.prompt, first.where, _agreed(first.columns, row.columns))
    return list(found.values())


def _agreed(one: Columns, other: Columns) -> Columns:
    names = {*one, *other} - set(one.disputed)
    unlike = [name for name in names if name not in one or name not in other or one[name] != other[name]]
    return Columns(dict(one), one.where, {**dict.fromkeys(unlike, other.where), **one.disputed})


def canonical(row: DataRow) -> str:
    """Return the texts of a row as one string that does not depend on the file it came from."""
    content = {name: value for name, value in vars(row).items() if name not in ("where", "columns")}
    return json.dumps(content, sort_keys=True, ensure_ascii=False, default=list)


def fingerprint(rows: Iterable[DataRow]) -> str:
    """Return a SHA-256 over the content and the order of rows, with all columns, since a reward may read any."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(canonical(row).encode() + _beside(row) + b"\n")
    return digest.hexdigest()


def _beside(row: DataRow) -> bytes:
    """Return the columns that are not word for word among the texts of a row; nothing if there are none."""
    beside = {name: value for name, value in row.columns.items() if getattr(row, name, None) != value}
    # An address in memory, as images have it in their names, is another in each process.
    text = json.dumps(beside, sort_keys=True, default=lambda value: re.sub(" at 0x[0-9a-f]+", "", repr(value)))
    return b"\t" + text.encode() if beside else b""
