"""A published board: a folder with everything that a stranger needs to compute its numbers again.

    bundle.json        the manifest: what was compared, and the hash of every other file
    bench.json         the plan
    records/*.json     each row and seed: scores, the answers behind them, the ledger
    index.html, README.md, leaderboard.json, .csv, .tex    what is computed from these

The manifest holds no date and no machine's path, so that the same bench makes the same bytes.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import ConfigDict, TypeAdapter, with_config
from typing_extensions import TypedDict

from zoo_core.errors import StorageError
from zoo_core.storage.atomic import write_text
from zoo_leaderboard.board import Board, build
from zoo_leaderboard.load import check, load, read_json
from zoo_leaderboard.page import dumps, page
from zoo_leaderboard.readme import readme
from zoo_leaderboard.render import csv, latex
from zoo_leaderboard.schema import Base, Bench, Code, Record, Source
from zoo_leaderboard.statistics import finite
from zoo_leaderboard.write import as_json

BUNDLE_VERSION: Literal[1] = 1
"""Version of the layout; bundles of another version are refused."""
MANIFEST = "bundle.json"
BENCH = "bench.json"
RECORDS = "records"


class File(TypedDict):
    """One file of a bundle."""

    bytes: int
    sha256: str


class Frozen(TypedDict):
    """The tag that code and settings were frozen by, before the bench began."""

    tag: str
    commit: str
    date: str
    """When it was committed, in ISO 8601."""


class Totals(TypedDict):
    """What all rows and seeds together took; stages are counted for each row that is charged for them."""

    flops: float
    generated_tokens: float
    reward_queries: float
    judge_calls: float
    wall_seconds: float


@with_config(ConfigDict(strict=True, extra="allow"))
class Manifest(TypedDict):
    """What a bundle says about itself; all but `files`, `frozen`, `space` and `made_with` is computed from the rest."""

    bundle_version: Literal[1]
    name: str
    bench_id: str
    world_id: str | None
    base: Base
    data: dict[str, list[str]]
    """By data set: a hash of its rows for each seed."""
    hashes: dict[str, str]
    """By reference: of each reward, gold, annotator, judge and task."""
    code: dict[str, Code]
    commit: str | None
    frozen: Frozen | None
    space: bool
    """Whether its README begins with what a Space of Hugging Face reads."""
    budget: float
    """FLOPs of a row and seed."""
    seeds: list[int]
    tasks: list[Any]
    environments: list[dict[str, Any]]
    """Each that records were made in."""
    totals: Totals
    sources: list[Source]
    made_with: str
    """Version of zoo-leaderboard that computed the page and the tables."""
    files: dict[str, File]
    sha256: str
    """Hash of the manifest without this key: the name of the bundle."""


_MANIFEST: TypeAdapter[Manifest] = TypeAdapter(Manifest)


DERIVED = ("index.html", "README.md", "leaderboard.json", "leaderboard.csv", "leaderboard.tex")
"""The files of a bundle that are computed from its records."""


def derived(board: Board, manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return the files of `DERIVED`, by name."""
    texts = (page(board), readme(board, manifest), as_json(board), csv(board), latex(board))
    return dict(zip(DERIVED, texts, strict=True))


def pack(folder: Path, target: Path, frozen: Frozen | None = None, *, space: bool = False) -> Manifest:
    """Write the bundle of the bench in `folder` to `target`, the manifest last; return the manifest.

    `StorageError` if records cannot be trusted, or if `target` holds anything but the files of an older bundle.
    """
    bench, records = load(folder)
    if target.resolve() == folder.resolve():
        raise StorageError(f"{target} is the bench itself; name another folder for the bundle.")
    check_place(target)
    sources = [folder / BENCH, *sorted((folder / RECORDS).glob("*.json"))]
    texts = {source.relative_to(folder).as_posix(): source.read_text(encoding="utf-8") for source in sources}
    return write(bench, records, texts, target, frozen, space=space)


def write(
    bench: Bench,
    records: Sequence[Record],
    texts: Mapping[str, str],
    target: Path,
    frozen: Frozen | None = None,
    *,
    space: bool = False,
) -> Manifest:
    """Write a bundle of these files (the bench's and the records', as they are read) and of what follows from them."""
    about = about_of(bench, records, frozen, space=space)
    every = {**texts, **derived(build(bench, records), about)}
    if (target / MANIFEST).is_file():
        before = read_manifest(target)["files"]
        (target / MANIFEST).unlink()  # a bundle without its manifest is none: nobody takes half of it
        for old in set(files_in(target)) & before.keys() - every.keys():
            (target / old).unlink()
    for name, text in every.items():
        write_text(target / name, text)
    manifest = sealed(about, {name: file_of(target / name) for name in sorted(every)})
    write_text(target / MANIFEST, as_json(manifest))
    return manifest


def about_of(bench: Bench, records: Sequence[Record], frozen: Frozen | None, *, space: bool) -> dict[str, Any]:
    """Return what a manifest says but for files: computed from plan and records alone."""
    environments = {json.dumps(record["environment"], sort_keys=True) for record in records}
    return {
        "bundle_version": BUNDLE_VERSION,
        **{name: bench[name] for name in ("name", "bench_id", "base", "tasks")},
        "world_id": bench.get("world_id"),
        "data": {kind: found["sha256"] for kind, found in sorted(bench.get("data", {}).items())},
        "hashes": bench.get("hashes", {}),
        "code": bench.get("code", {}),
        "commit": bench.get("commit"),
        "frozen": frozen,
        "space": space,
        "budget": bench["flops_budget"],
        "seeds": sorted({record["seed"] for record in records}),
        "environments": [json.loads(text) for text in sorted(environments)],
        "totals": _totals(records),
        "sources": bench.get("sources", []),
        "made_with": version("zoo-leaderboard"),
    }


def sealed(about: Mapping[str, Any], files: Mapping[str, File]) -> Manifest:
    """Return the manifest with the hashes of the files and, last, its own."""
    whole = {**about, "files": dict(files)}
    return cast(Manifest, whole | {"sha256": hashlib.sha256(dumps(whole).encode()).hexdigest()})


def read_manifest(folder: Path) -> Manifest:
    """Return a bundle's manifest; `StorageError` if there is none, or one of another version."""
    path = folder / MANIFEST
    if not path.is_file():
        raise StorageError(f"{path} does not exist: {folder} is no bundle. `zoo leaderboard publish` makes one.")
    return check(_MANIFEST.validate_python, read_json(path), path, {"bundle_version": BUNDLE_VERSION})


def file_of(path: Path) -> File:
    """Return size and hash of a file."""
    content = path.read_bytes()
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def files_in(folder: Path) -> list[str]:
    """Return the names of all files in a folder but the manifest, and but what is hidden there (.git, .nojekyll)."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(path.as_posix() for path in found if path.parts[0][0] != "." and path.as_posix() != MANIFEST)


def check_place(target: Path) -> None:
    """Raise `StorageError` unless a bundle can be written to `target`: a new folder, an empty one, or a bundle's."""
    if target.exists() and not target.is_dir():
        raise StorageError(f"{target} is a file; name a folder.")
    if not target.is_dir():
        return
    strange = set(files_in(target))
    is_bundle = (target / MANIFEST).is_file()
    if is_bundle:
        strange -= read_manifest(target)["files"].keys()
    if strange:
        what = "which is not of the bundle there; move it away, or" if is_bundle else "and is no bundle;"
        raise StorageError(f"{target} holds {min(strange)!r}, {what} name a new or an empty folder.")


def check_outside(target: Path, bundle: Path) -> None:
    """Raise `StorageError` if what is written to `target` would be among the files of a bundle."""
    if target.resolve().is_relative_to(bundle.resolve()):
        raise StorageError(f"{target} lies in the bundle {bundle}, which would not verify any more; name another.")


def _totals(records: Sequence[Record]) -> Totals:
    def total(values: Sequence[float | None]) -> float:
        return float(sum(value for value in map(finite, values) if value is not None))

    return {
        "flops": total([record["flops_used"] for record in records]),
        "generated_tokens": total([record["generated_tokens"] for record in records]),
        "reward_queries": total([record["reward_queries"] for record in records]),
        "judge_calls": total([record["judge_calls"] for record in records]),
        "wall_seconds": total([record["wall_seconds"] for record in records]),
    }
