"""Reading the rows of a user's file: JSONL, a JSON list, Parquet, a `save_to_disk` directory, a hub id."""

import codecs
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from zoo_core.errors import DataError, first_line

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_BLANK = re.compile(r"[ \t\r\n]*")
FORMATS = (
    "a .jsonl, .json or .parquet file, a directory written by datasets' save_to_disk, or a hub id such as org/name"
)


class LocatedRow(dict[str, object]):
    """A row with the place it was read from, for messages: "pairs.jsonl:7"."""

    where: str = "?"


def read_rows(ref: str) -> list[Mapping[str, object]] | None:
    """Return the rows that a path or hub id names; None if `ref` can be neither.

    A `DataError` names file and line of anything that cannot be read.
    """
    path = Path(ref).expanduser()
    if path.is_dir():
        return _located(path, _read_saved(path))
    if path.is_file():
        if path.suffix in (".jsonl", ".json"):
            rows: list[Mapping[str, object]] = list(_read_json(path))
        elif path.suffix == ".parquet":
            rows = _located(path, _read_parquet(path))
        else:
            raise DataError(f"{path}: cannot tell the format from the ending {path.suffix!r}; give {FORMATS}.")
        if not rows:
            raise DataError(f"{path}: the file is empty; one JSON object a line, or one list of them, was expected.")
        return rows
    if path.suffix in (".jsonl", ".json", ".parquet") or ref.startswith((".", "/", "~")):
        raise DataError(f"{ref}: there is no such file or directory (looked in {Path.cwd()}). Give {FORMATS}.")
    return _read_hub(ref) if HUB_ID.fullmatch(ref) else None


def _read_json(path: Path) -> Iterator[LocatedRow]:
    """Read one object per line, or one list of objects; the file's first character tells which."""
    with path.open("rb") as file:
        start = file.read(4096)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{path}: the file is in UTF-16. Save it in UTF-8: iconv -f UTF-16 -t UTF-8 {path.name}.")
    is_list = start.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")
    for number, value in (_elements if is_list else _lines)(path):
        if not isinstance(value, dict):
            raise DataError(f"{path}:{number}: a row must be a JSON object, this is a {type(value).__name__}.")
        row = LocatedRow(value)
        row.where = f"{path}:{number}"
        yield row


def _lines(path: Path) -> Iterator[tuple[int, object]]:
    """Yield the number and the value of each line."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield number, json.loads(line, object_pairs_hook=_once)
            except (ValueError, RecursionError) as error:
                cut = "" if line.endswith(b"\n") else " The file's last line is cut off: was it copied whole?"
                whole = " The file is one JSON value; give one object a line, or one list of them." * _is_json(path)
                raise DataError(f"{path}:{number}: this line is not JSON ({error}).{whole or cut}") from None


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return an object; `ValueError` for a key that is there twice, of which JSON would silently take the last."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return made


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return True


def _elements(path: Path) -> Iterator[tuple[int, object]]:
    """Yield the elements of a list, each with the number of the line on which it begins."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: the file is not UTF-8 ({error}).") from None
    decoder, place, line, counted = json.JSONDecoder(object_pairs_hook=_once), text.index("[") + 1, 1, 0
    while True:
        place = _BLANK.match(text, place).end()  # type: ignore[union-attr]  # it matches nothing at all, too
        line, counted = line + text.count("\n", counted, place), place
        if text[place : place + 1] == "]":
            return
        try:
            value, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:{line}: this element of the list is not JSON ({error}).") from None
        yield line, value
        place = _BLANK.match(text, place).end()  # type: ignore[union-attr]
        if text[place : place + 1] == ",":
            place += 1
        elif text[place : place + 1] != "]":
            line += text.count("\n", counted, place)
            raise DataError(f"{path}:{line}: the list goes on without a comma, or the file is cut off.")


def _read_parquet(path: Path) -> list[dict[str, object]]:
    import pyarrow
    from pyarrow import parquet

    try:
        return parquet.read_table(path).to_pylist()  # type: ignore[no-any-return]
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({error}).") from None


def _read_saved(path: Path) -> list[dict[str, object]]:
    from datasets import Dataset, load_from_disk

    try:
        saved = load_from_disk(str(path))
    except (FileNotFoundError, OSError, ValueError) as error:
        raise DataError(f"{path}: not a directory written by save_to_disk ({error}). Give {FORMATS}.") from None
    if not isinstance(saved, Dataset):
        if "train" not in saved:
            raise DataError(f"{path}: has the splits {', '.join(saved)} but no 'train'; save that split by itself.")
        saved = saved["train"]
    return saved.to_list()  # type: ignore[no-any-return]


def _read_hub(ref: str) -> list[Mapping[str, object]]:
    from datasets import load_dataset

    try:
        return _located(ref, load_dataset(ref, split="train").to_list())
    except (OSError, ValueError) as error:
        offline = os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0")
        why = "HF_HUB_OFFLINE is set and it is not in the local cache" if offline else first_line(error)
        raise DataError(
            f"{ref}: no such file or directory here, and as a hub data set it could not be loaded: {why}. "
            "Download it once while online, or give a local file."
        ) from None


def _located(source: Path | str, values: list[dict[str, object]]) -> list[Mapping[str, object]]:
    rows: list[Mapping[str, object]] = []
    for number, value in enumerate(values):
        row = LocatedRow(value)
        row.where = f"{source} row {number}"
        rows.append(row)
    return rows
