"""Is a bundle what it says? Every byte against its hash, every number against what it is computed from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from zoo_core.errors import StorageError
from zoo_leaderboard.board import Board, build
from zoo_leaderboard.bundle import (
    BENCH,
    DERIVED,
    MANIFEST,
    RECORDS,
    Manifest,
    about_of,
    derived,
    file_of,
    files_in,
    read_manifest,
    sealed,
)
from zoo_leaderboard.cells import start_of
from zoo_leaderboard.load import file_name, load
from zoo_leaderboard.planned import unplanned
from zoo_leaderboard.recount import wrong_in
from zoo_leaderboard.schema import Bench, Record
from zoo_leaderboard.write import as_json


@dataclass(frozen=True)
class Fault:
    """What is wrong with one file of a bundle."""

    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


@dataclass
class Verdict:
    """What came out of checking a bundle."""

    manifest: Manifest
    bench: Bench | None = None
    """None, and no records and no board, if they cannot be read."""
    records: list[Record] = field(default_factory=list)
    """Whose scores were computed again from their answers, and whose ledgers were added up."""
    board: Board | None = None
    """Computed again from the records."""
    faults: list[Fault] = field(default_factory=list)
    page_compared: bool = True
    """Whether page and tables are what the records give; another version of zoo-leaderboard cannot tell."""
    notes: list[str] = field(default_factory=list)
    """What could not be checked, and why."""


def verify(folder: Path) -> Verdict:
    """Check a bundle: hashes, records, tables, page and the manifest itself; `StorageError` if it is no bundle."""
    manifest = read_manifest(folder)
    verdict = Verdict(manifest)
    verdict.faults += _wrong_files(folder, manifest)
    try:
        bench, records = load(folder)
    except StorageError as error:
        verdict.faults.append(Fault(_named_by(error, folder), str(error)))
        return verdict
    known = {(record["row"], record["seed"]): record for record in records}
    for record in records:
        start = known.get((start_of(record), record["seed"]))
        name = f"{RECORDS}/{file_name(record['row'], record['seed'])}"
        verdict.faults += [Fault(name, what) for what in (*wrong_in(record, start), *unplanned(bench, record))]
    verdict.bench, verdict.records, verdict.board = bench, records, build(bench, records)
    verdict.faults += _wrong_manifest(bench, records, manifest)
    _check_derived(folder, verdict.board, verdict)
    return verdict


def _wrong_files(folder: Path, manifest: Manifest) -> Iterator[Fault]:
    listed, there = manifest["files"], files_in(folder)
    if (folder / MANIFEST).read_bytes() != as_json(manifest).encode():
        yield Fault(MANIFEST, "its bytes are not those that a manifest of this content has")
    about = {key: value for key, value in manifest.items() if key not in ("files", "sha256")}
    if sealed(about, listed)["sha256"] != manifest["sha256"]:
        yield Fault(MANIFEST, "sha256 is not the hash of what it says")
    if (folder / MANIFEST).is_symlink():
        yield Fault(MANIFEST, "is a link; a bundle holds files")
    for name in sorted(listed.keys() - {BENCH, *DERIVED}):
        if not name.startswith(f"{RECORDS}/"):
            yield Fault(name, "is no file that a bundle has")
    for name in there:
        if (folder / name).is_symlink() or not (folder / name).is_file():
            yield Fault(name, "is a link or a device; a bundle holds files")
        elif name not in listed:
            yield Fault(name, "is not of the bundle: its manifest does not list it")
        elif (found := file_of(folder / name)) != listed[name]:
            yield Fault(name, f"was changed: sha256 {found['sha256'][:12]}, not {listed[name]['sha256'][:12]}")
    for name in sorted(listed.keys() - set(there)):
        yield Fault(name, "is missing")


def _wrong_manifest(bench: Bench, records: list[Record], manifest: Manifest) -> Iterator[Fault]:
    """Yield what the manifest says otherwise than plan and records."""
    claimed: Mapping[str, Any] = {**manifest}
    about = about_of(bench, records, manifest["frozen"], space=manifest["space"])
    frozen, ran_at = manifest["frozen"], bench.get("commit")
    if frozen and frozen["commit"] != ran_at:
        yield Fault(MANIFEST, f"frozen.commit is {frozen['commit']}, and the bench ran at {ran_at}")
    for key in sorted(claimed.keys() - about.keys() - {"files", "sha256"}):
        yield Fault(MANIFEST, f"{key} is no key of a manifest")
    for key, value in about.items():
        if key != "made_with" and claimed[key] != value:
            yield Fault(MANIFEST, f"{key} is {_short(claimed[key])}, and {BENCH} and {RECORDS} say {_short(value)}")


def _check_derived(folder: Path, board: Board, verdict: Verdict) -> None:
    """Compute page and tables again, and compare their bytes."""
    gone = sorted(name for name in DERIVED if name not in verdict.manifest["files"] and not (folder / name).exists())
    verdict.faults += [Fault(name, "is missing, and the manifest does not list it") for name in gone]
    mine, theirs = version("zoo-leaderboard"), verdict.manifest["made_with"]
    if mine != theirs:
        verdict.page_compared = False
        verdict.notes.append(
            f"page and tables were not compared: they were made with zoo-leaderboard {theirs}, and this is {mine}"
        )
        return
    for name, text in derived(board, verdict.manifest).items():
        path = folder / name
        if path.is_file() and path.read_bytes() != text.encode("utf-8", errors="backslashreplace"):
            verdict.faults.append(Fault(name, "is not what its records give"))


def _named_by(error: StorageError, folder: Path) -> str:
    """The file of a bundle that an error is about."""
    names = [name for name in files_in(folder) if str(folder / name) in str(error)]
    return max(names, key=len, default=RECORDS)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
