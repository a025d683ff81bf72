"""Errors that a user can mend. The command line prints their message and exits with code 2.

ZooError
├── SpecError       a bench spec or a setting asks for something that cannot be done
├── DataError       a data set cannot be read, or a row of it is wrong
│   └── ColumnError a reward reads a column that the row does not have
├── ModelError      a model, tokenizer or scorer cannot be loaded or does not fit
├── BudgetError     the budget is too small, or the meter found it broken
├── PluginError     a plugin cannot be used
└── StorageError    a result cannot be written or read

Every message says what is wrong (with the value), where, and what to do about it. Any other
exception is a bug of the zoo or of a plugin and keeps its traceback.
"""

import difflib
from collections.abc import Iterable


class ZooError(Exception):
    """A mistake that the user can mend; the message says how."""


class SpecError(ZooError):
    """A bench spec or a setting asks for something that cannot be done."""


class DataError(ZooError):
    """A data set cannot be read, or a row of it is wrong."""


class ColumnError(DataError, KeyError):
    """A reward reads a column that the row does not have; a `KeyError`, so that `row.get(name)` is None."""

    __str__ = Exception.__str__  # that of KeyError shows the message in quotes


class ModelError(ZooError):
    """A model, tokenizer or scorer cannot be loaded or does not fit."""


class BudgetError(ZooError):
    """The budget is too small, or the meter found it broken."""


class PluginError(ZooError):
    """A plugin cannot be used."""


class StorageError(ZooError):
    """A result cannot be written or read."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the hint "Did you mean 'x'? Known: ..." for a name that is not known."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return f"{hint}Known: {', '.join(names) or 'none'}."


def first_line(error: BaseException) -> str:
    """Return the first line of another library's error, or the name of its class if it has no message."""
    lines = str(error).strip().split("\n")
    return lines[0].strip() or type(error).__name__


def in_one_line(error: BaseException, most: int = 300) -> str:
    """Return class and message of another library's error in one line of at most `most` characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:most]
