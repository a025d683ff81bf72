"""Read what a bench left in a directory, and refuse what cannot be trusted."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from zoo_core.errors import StorageError
from zoo_leaderboard.schema import PER_SEED, SCHEMA_VERSION, Bench, Record

VERSION = {"schema_version": SCHEMA_VERSION}
_T = TypeVar("_T")
_BENCH: TypeAdapter[Bench] = TypeAdapter(Bench)
_RECORD: TypeAdapter[Record] = TypeAdapter(Record)


def load(directory: str | Path) -> tuple[Bench, list[Record]]:
    """Return the plan and the records (by row and seed) of the bench in `directory`.

    Raises `StorageError`, naming the file and the key, for what is missing, truncated or of another schema
    version, for a record of another bench, and for two records of one cell.
    """
    root = Path(directory)
    bench = check(_BENCH.validate_python, read_json(root / "bench.json"), root / "bench.json", VERSION)
    paths = sorted((root / "records").glob("*.json"))
    if not paths:
        raise StorageError(f"{root / 'records'} holds no record: no cell has ended. Run `zoo bench` first.")
    records = [check(_RECORD.validate_python, read_json(path), path, VERSION) for path in paths]
    _check_together(bench, records, paths)
    return bench, sorted(records, key=lambda record: (record["row"], record["seed"]))


def read_json(path: Path) -> object:
    """Return the JSON in `path`, or raise `StorageError`; NaN and infinities are read as null: JSON has none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
    except FileNotFoundError as error:
        raise StorageError(f"{path} does not exist. Name the folder that `zoo bench` printed.") from error
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise StorageError(
            f"{path} is not JSON, or was cut off: {error}. Delete it and run `zoo bench` again."
        ) from error


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


def _check_together(bench: Bench, records: Sequence[Record], paths: Sequence[Path]) -> None:
    for kind, data in bench.get("data", {}).items():
        lists = {name: value for name, value in data.items() if name in (*PER_SEED, "seeds")}
        lengths = {name: len(value) for name, value in lists.items() if isinstance(value, list)}
        if len({*lengths.values()}) > 1:
            raise StorageError(f"bench.json: the lists of data {kind!r} are not of the same seeds: {lengths}.")
    seen: dict[tuple[str, int], Path] = {}
    kinds: dict[str, str] = {}
    for record, path in zip(records, paths, strict=True):
        if record["bench_id"] != bench["bench_id"]:
            raise StorageError(
                f"{path}: key 'bench_id' is {record['bench_id']!r} and in bench.json {bench['bench_id']!r}. "
                "Records of different benches are not comparable: move it away."
            )
        if record["status"] == "ok" and record["scores"] is None:
            raise StorageError(f"{path}: key 'scores' is null though 'status' is 'ok'. Score the cell again.")
        cell = (record["row"], record["seed"])
        if cell in seen:
            raise StorageError(f"{path} repeats row {cell[0]!r}, seed {cell[1]} of {seen[cell]}. Delete one.")
        seen[cell] = path
        if kinds.setdefault(record["row"], record["kind"]) != record["kind"]:
            raise StorageError(f"{path}: key 'kind' of row {record['row']!r} is not that of its other seeds.")
