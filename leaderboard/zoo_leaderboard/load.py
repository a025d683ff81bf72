"""Read what a bench left in a directory, and refuse what cannot be trusted."""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from zoo_core.errors import StorageError
from zoo_leaderboard.schema import PER_SEED, SCHEMA_VERSION, Bench, Record

VERSION = {"schema_version": SCHEMA_VERSION}
LARGEST_WHOLE = 2**63
"""Whole numbers from here on are refused: few readers of JSON know them, and no board has them."""
OF_ROW = ("kind", "algorithm", "plugin", "reward", "control")
"""What all seeds of a row have in common."""
_T = TypeVar("_T")
_BENCH: TypeAdapter[Bench] = TypeAdapter(Bench)
_RECORD: TypeAdapter[Record] = TypeAdapter(Record)


def load(directory: str | Path) -> tuple[Bench, list[Record]]:
    """Return the plan and the records (by row and seed) of the bench in `directory`.

    Raises `StorageError`, naming the file and the key, for what is missing, truncated or of another schema
    version, for a record of another bench, and for one in the file of another cell.
    """
    root = Path(directory)
    bench = check(_BENCH.validate_python, read_json(root / "bench.json"), root / "bench.json", VERSION)
    paths = sorted((root / "records").glob("*.json"))
    if not paths:
        raise StorageError(f"{root / 'records'} holds no record: no cell has ended. Run `zoo bench` first.")
    records = [check(_RECORD.validate_python, read_json(path), path, VERSION) for path in paths]
    _check_together(bench, records, root / "bench.json", paths)
    return bench, sorted(records, key=lambda record: (record["row"], record["seed"]))


def read_json(path: Path) -> object:
    """Return the JSON in `path`, or raise `StorageError`; NaN and infinities are read as null: JSON has none."""
    if path.exists() and not path.is_file():
        raise StorageError(f"{path} is no file.")
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(
            text, object_pairs_hook=_object, parse_constant=lambda _: None, parse_float=_finite, parse_int=_whole
        )
    except FileNotFoundError as error:
        raise StorageError(f"{path} does not exist. Name the folder that `zoo bench` printed.") from error
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise StorageError(
            f"{path} is not JSON, or was cut off: {error}. Delete it and run `zoo bench` again."
        ) from error


def _object(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """Make an object whose keys differ: of two that are the same, readers take one or the other."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return found


def _finite(text: str) -> float | None:
    """Read a number; what is too large for one, such as 1e999, would be an infinity."""
    number = float(text)
    return number if math.isfinite(number) else None


def _whole(text: str) -> int:
    number = int(text)
    if abs(number) >= LARGEST_WHOLE:
        raise ValueError(f"the number {text[:20]}... is too large")
    return number


def check(validate: Callable[[object], _T], value: object, path: Path, version: Mapping[str, int]) -> _T:
    """Return what `validate` makes of the JSON in `path`; `version` has the key that must have one value.

    Raises `StorageError` for another version, and for what is wrong with the first bad key.
    """
    ((key, wanted),) = version.items()
    found = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, dict) and found != wanted:
        raise StorageError(
            f"{path}: key {key!r} is {found!r}, and this zoo-leaderboard reads {wanted}. "
            "Use the version of zoo-leaderboard that it was made with."
        )
    try:
        return validate(value)
    except ValidationError as error:
        raise StorageError(f"{path}: {_first(error)} Delete the file and run `zoo bench` again.") from error


def _first(error: ValidationError) -> str:
    """Say what is wrong with the first bad key, and how many more are bad."""
    problem, *more = error.errors(include_url=False)
    key = ".".join(map(str, problem["loc"])) or "the file"
    value = str(problem["input"])[:60]
    got = "is missing" if problem["type"] == "missing" else f"is {value!r}: {problem['msg']}"
    return f"key {key!r} {got}" + (f" ({len(more)} more keys are wrong)." if more else ".")


def file_name(row: str, seed: int) -> str:
    """Return what the file with the record of a row and seed is called."""
    return f"{row}-seed{seed}.json"


def _check_together(bench: Bench, records: Sequence[Record], plan: Path, paths: Sequence[Path]) -> None:
    first_seed = bench["spec"].get("first_seed", 0)
    if not isinstance(first_seed, int):
        raise StorageError(f"{plan}: key 'spec.first_seed' is {first_seed!r}, and no whole number.")
    for kind, data in bench.get("data", {}).items():
        lists = {name: value for name, value in data.items() if name in (*PER_SEED, "seeds")}
        lengths = {name: len(value) for name, value in lists.items() if isinstance(value, list)}
        if len({*lengths.values()}) > 1:
            raise StorageError(f"{plan}: the lists of data {kind!r} are not of the same seeds: {lengths}.")
    first: dict[str, Record] = {}
    for record, path in zip(records, paths, strict=True):
        if record["bench_id"] != bench["bench_id"]:
            raise StorageError(
                f"{path}: key 'bench_id' is {record['bench_id']!r} and in bench.json {bench['bench_id']!r}. "
                "Records of different benches are not comparable: move it away."
            )
        if record["status"] == "ok" and record["scores"] is None:
            raise StorageError(f"{path}: key 'scores' is null though 'status' is 'ok'. Score the cell again.")
        if path.name != (name := file_name(record["row"], record["seed"])):
            raise StorageError(f"{path} holds row {record['row']!r}, seed {record['seed']}, whose file is {name}.")
        other = first.setdefault(record["row"], record)
        for key in OF_ROW:
            if record.get(key) != other.get(key):
                raise StorageError(f"{path}: key {key!r} of row {record['row']!r} is not that of its other seeds.")
