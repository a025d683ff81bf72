"""Reading rows from files a user made: JSONL, Parquet, `save_to_disk` directories, hub ids."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from zoo_core.errors import DataError

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
FORMATS = "a .jsonl or .parquet file, a directory written by datasets' save_to_disk, or a hub id such as org/name"


class Row(dict[str, object]):
    """A row that knows where it was read, for messages: "pairs.jsonl:7"."""

    where: str = "?"


def read_rows(ref: str) -> list[Mapping[str, object]] | None:
    """Return the rows that a path or hub id names; None if `ref` can be neither.

    Raises `DataError` naming file and line for anything that cannot be read.
    """
    path = Path(ref).expanduser()
    if path.is_dir():
        return _located(path, _read_saved(path))
    if path.is_file():
        if path.suffix in (".jsonl", ".json"):
            rows: list[Mapping[str, object]] = list(_read_jsonl(path))
        elif path.suffix == ".parquet":
            rows = _located(path, _read_parquet(path))
        else:
            raise DataError(f"{path}: cannot tell the format from the ending {path.suffix!r}; give {FORMATS}.")
        if not rows:
            raise DataError(f"{path}: the file is empty; one JSON object a line was expected.")
        return rows
    if path.suffix in (".jsonl", ".json", ".parquet") or ref.startswith((".", "/", "~")):
        raise DataError(f"{ref}: there is no such file or directory (looked in {Path.cwd()}). Give {FORMATS}.")
    return _read_hub(ref) if HUB_ID.fullmatch(ref) else None


def _read_jsonl(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                cut = "" if line.endswith(b"\n") else " The file's last line is cut off: was it copied whole?"
                raise DataError(f"{path}:{number}: this line is not JSON ({error}).{cut}") from None
            if not isinstance(value, dict):
                raise DataError(f"{path}:{number}: a row must be a JSON object, this is a {type(value).__name__}.")
            row = Row(value)
            row.where = f"{path}:{number}"
            yield row


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
        why = "HF_HUB_OFFLINE is set and it is not in the local cache" if offline else str(error).splitlines()[0]
        raise DataError(
            f"{ref}: no such file or directory here, and as a hub data set it could not be loaded: {why}. "
            "Download it once while online, or give a local file."
        ) from None


def _located(source: Path | str, values: list[dict[str, object]]) -> list[Mapping[str, object]]:
    rows: list[Mapping[str, object]] = []
    for number, value in enumerate(values):
        row = Row(value)
        row.where = f"{source} row {number}"
        rows.append(row)
    return rows
