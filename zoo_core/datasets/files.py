"""Reading the rows of a user's file: JSONL, a JSON list, CSV, Parquet, a `save_to_disk` directory, a hub id."""

import codecs
import csv
import gzip
import io
import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from zoo_core.errors import DataError, first_line

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_BLANK = re.compile(r"[ \t\r\n]*")
FORMATS = (
    "a .jsonl, .json or .csv file (or one of these with .gz), a .parquet file, a directory written by datasets' "
    "save_to_disk, or a hub id such as org/name"
)


class LocatedRow(dict[str, object]):
    """A row with the place it was read from, for messages: "pairs.jsonl:7"."""

    where: str = "?"


def read_rows(ref: str) -> list[Mapping[str, object]] | None:
    """Return the rows that a path or hub id names; None if `ref` can be neither.

    A `DataError` names file and line of anything that cannot be read.
    """
    bare, split = _parts(ref)
    path = Path(bare).expanduser()
    if path.is_dir():
        return _located(f"{path}#{split}" if split else path, _read_saved(path, split))
    kind = _ending(path)
    if path.is_file() and not split:
        if kind in (".jsonl", ".json"):
            rows: list[Mapping[str, object]] = list(_read_json(path))
        elif kind == ".csv":
            rows = list(_read_csv(path))
        elif path.suffix == ".parquet":
            rows = _located(path, _read_parquet(path))
        else:
            raise DataError(f"{path}: cannot tell the format from the ending {path.suffix!r}; give {FORMATS}.")
        if not rows:
            wanted = "a line of names and rows below it" if kind == ".csv" else "one JSON object a line, or one list"
            raise DataError(f"{path}: the file is empty; {wanted} was expected.")
        return rows
    if path.is_file():
        raise DataError(f"{ref}: a file has no splits; leave out #{split}.")
    if kind in (".jsonl", ".json", ".csv", ".parquet") or ref.startswith((".", "/", "~")):
        raise DataError(f"{ref}: there is no such file or directory (looked in {Path.cwd()}). Give {FORMATS}.")
    return _read_hub(bare, split) if HUB_ID.fullmatch(bare) else None


def split_note(ref: str) -> str | None:
    """Say which split is read, where a reference names none and it is not the only one, or not called train."""
    bare, split = _parts(ref)
    path = Path(bare).expanduser()
    if split or path.is_file():
        return None
    listed = path / "dataset_dict.json"
    name = path.name if path.is_dir() else ref
    if listed.is_file():
        names = list(map(str, json.loads(listed.read_text())["splits"]))
    else:
        names = list(_from_hub(ref)) if HUB_ID.fullmatch(bare) and not path.is_dir() else []
    if len(names) > 1:
        return f"of the splits {', '.join(names)} 'train' is read; another one is {name}#split."
    return f"the only split, {names[0]!r}, is read." if names and names != ["train"] else None


def _parts(ref: str) -> tuple[str, str]:
    """Return the path or hub id, and the split that stands behind a #."""
    bare, _, split = ref.rpartition("#")
    return (ref, "") if not bare or Path(ref).expanduser().exists() else (bare, split)


def _ending(path: Path) -> str:
    """Return how a file's name ends, without .gz."""
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def _open(path: Path) -> io.BufferedIOBase:
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")


def _read_whole(path: Path) -> str:
    """Return the text of a file; `DataError` names the line of what is not UTF-8."""
    with _open(path) as file:
        content = file.read()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: the file is not UTF-8 ({error}). Save it in UTF-8.") from None


def _check_whole(path: Path) -> None:
    """Raise `DataError` for a file in UTF-16, or one whose compression is damaged."""
    try:
        with _open(path) as file:
            start = file.read(4)
            while path.suffix.lower() == ".gz" and file.read(1 << 20):
                pass
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: the file is no whole gzip file ({error}). Was it copied whole?") from None
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{path}: the file is in UTF-16. Save it in UTF-8: iconv -f UTF-16 -t UTF-8 {path.name}.")


def _read_json(path: Path) -> Iterator[LocatedRow]:
    """Read one object per line, or one list of objects; the file's first character tells which."""
    _check_whole(path)
    with _open(path) as file:
        start = file.read(4096)
    is_list = start.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")
    for number, value in (_elements if is_list else _lines)(path):
        if not isinstance(value, dict):
            raise DataError(f"{path}:{number}: a row must be a JSON object, this is a {type(value).__name__}.")
        yield _at(value, f"{path}:{number}")


def _read_csv(path: Path) -> Iterator[LocatedRow]:
    """Read a line of names and the rows below it. Every cell is text; an empty one is null."""
    _check_whole(path)
    reader = csv.reader(io.StringIO(_read_whole(path), newline=""), strict=True)
    names, line = list[str](), 1
    try:
        for cells in reader:
            first, line = line, reader.line_num + 1
            if not cells:
                continue
            if not names:
                names = [name.strip() for name in cells]
                if twice := [name for name in names if names.count(name) > 1]:
                    raise DataError(f"{path}:{first}: two columns are called {twice[0]!r}; rename or remove one.")
            elif len(cells) != len(names):
                raise DataError(
                    f"{path}:{first}: this row has {len(cells)} cells, and the first line names {len(names)} columns. "
                    "Put text that holds commas or line ends in double quotes."
                )
            else:
                yield _at({name: cell or None for name, cell in zip(names, cells, strict=True)}, f"{path}:{first}")
    except csv.Error as error:
        raise DataError(f"{path}:{line}: this row is not CSV ({error}). Is a double quote missing?") from None


def _lines(path: Path) -> Iterator[tuple[int, object]]:
    """Yield the number and the value of each line."""
    with _open(path) as file:
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
        json.loads(_read_whole(path))
    except (DataError, ValueError, RecursionError):
        return False
    return True


def _elements(path: Path) -> Iterator[tuple[int, object]]:
    """Yield the elements of a list, each with the number of the line on which it begins."""
    text = _read_whole(path)
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


def _read_saved(path: Path, split: str) -> list[dict[str, object]]:
    from datasets import Dataset, load_from_disk

    try:
        saved = load_from_disk(str(path))
    except (FileNotFoundError, OSError, ValueError) as error:
        raise DataError(f"{path}: not a directory written by save_to_disk ({error}). Give {FORMATS}.") from None
    if not isinstance(saved, Dataset):
        saved = _split_of(saved, split, str(path), path.name)
    elif split:
        raise DataError(f"{path}: is one data set without splits; leave out #{split}.")
    return saved.to_list()  # type: ignore[no-any-return]


def _split_of(splits: "DatasetDict", split: str, ref: str, name: str) -> "Dataset":
    """Return the split that is named; if none is, the only one or that called train."""
    wanted, names = split or (next(iter(splits)) if len(splits) == 1 else "train"), list(map(str, splits))
    if wanted not in splits:
        raise DataError(f"{ref}: has the splits {', '.join(names)} but no {wanted!r}; name one: {name}#{names[0]}.")
    return splits[wanted]


def _read_hub(ref: str, split: str) -> list[Mapping[str, object]]:
    return _located(f"{ref}#{split}" if split else ref, _split_of(_from_hub(ref), split, ref, ref).to_list())


def _from_hub(ref: str) -> "DatasetDict":
    from datasets import load_dataset

    try:
        return load_dataset(ref)
    except (OSError, ValueError) as error:
        offline = os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0")
        why = "HF_HUB_OFFLINE is set and it is not in the local cache" if offline else first_line(error)
        raise DataError(
            f"{ref}: no such file or directory here, and as a hub data set it could not be loaded: {why}. "
            "Download it once while online, or give a local file."
        ) from None


def _located(source: Path | str, values: list[dict[str, object]]) -> list[Mapping[str, object]]:
    return [_at(value, f"{source} row {number}") for number, value in enumerate(values)]


def _at(value: Mapping[str, object], where: str) -> LocatedRow:
    row = LocatedRow(value)
    row.where = where
    return row
