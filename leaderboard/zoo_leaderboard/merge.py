"""Join bundles of different people to one board, where what they compared is the same.

Every bundle is checked before. A row that two of them have is one row where they agree: with the same weights on the
seeds that both ran, it counts as run again. Where they do not (another processor rounds differently), the later one is
a row of its own, behind whose name stand the first digits of its bundle's hash, and it is measured against its own
`start`.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, cast

from zoo_core.errors import StorageError
from zoo_leaderboard.bundle import BENCH, RECORDS, Manifest, check_outside, check_place, write
from zoo_leaderboard.cells import START, start_of
from zoo_leaderboard.load import file_name
from zoo_leaderboard.planned import seeds_of, seeds_of_data
from zoo_leaderboard.schema import PER_SEED, UNIMPORTANT, Bench, Code, DataSet, Planned, Record, Source
from zoo_leaderboard.verify import verify
from zoo_leaderboard.write import as_json

HASHED = ("base", "demonstrations", "preferences", "prompts")
"""Keys of a spec that name files: two people call the same files differently, and their hashes are compared."""
Cells = dict[int, Record]
"""The records of a row by seed."""


@dataclass(frozen=True)
class Bundle:
    """A bundle that was checked."""

    folder: Path
    manifest: Manifest
    bench: Bench
    rows: Mapping[str, Cells]

    @classmethod
    def of(cls, folder: Path) -> "Bundle":
        """Read a bundle and check it; `StorageError` for the first thing that is wrong with it."""
        verdict = verify(folder)
        if verdict.faults:
            more = f" ({len(verdict.faults) - 1} more)" if verdict.faults[1:] else ""
            raise StorageError(f"{folder}: {verdict.faults[0]}{more}. `zoo leaderboard verify {folder}` tells all.")
        assert verdict.bench is not None  # else there were faults
        rows: dict[str, Cells] = {}
        for record in verdict.records:
            rows.setdefault(record["row"], {})[record["seed"]] = record
        return cls(folder, verdict.manifest, verdict.bench, rows)

    @property
    def mark(self) -> str:
        """What tells its rows from others of the same name."""
        return self.manifest["sha256"][:8]

    @property
    def holds(self) -> set[str]:
        """The hashes of this bundle and of those that it was joined from: a run is in no board twice."""
        return {self.manifest["sha256"], *(source["sha256"] for source in self.bench.get("sources", []))}

    @property
    def source(self) -> Source:
        """What the joined board says of it."""
        return {"name": self.bench["name"], "sha256": self.manifest["sha256"], "rows": sorted(self.rows)}


def merge(folders: Sequence[Path], target: Path) -> Manifest:
    """Write the bundle with the rows of all bundles in `folders` to `target`.

    Raises `StorageError` for a bundle that does not verify, and where two do not compare the same thing: every
    difference is named.
    """
    bundles = [Bundle.of(folder) for folder in folders]
    for folder in folders:
        check_outside(target, folder)
    check_place(target)
    first, *others = bundles
    for one, other in combinations(bundles, 2):
        if twice := one.holds & other.holds:
            raise StorageError(f"{other.folder} and {one.folder} both hold the bundle {min(twice)[:12]}; name it once.")
        if found := list(differences(one, other)):
            listed = "\n".join(f"  {difference}" for difference in found)
            raise StorageError(f"{other.folder} and {one.folder} cannot be joined:\n{listed}")
    rows: dict[str, Cells] = {}
    planned: dict[str, Planned] = {}
    origins: dict[str, Bundle] = {}
    for bundle in bundles:
        _join(rows, planned, bundle, origins)
    bench = _bench(bundles, list(planned.values()), rows)
    taken = [record for cells in rows.values() for record in cells.values()]
    records: list[Record] = [{**record, "bench_id": bench["bench_id"]} for record in taken]
    texts = {f"{RECORDS}/{file_name(one['row'], one['seed'])}": as_json(one) for one in records}
    texts[BENCH] = as_json(bench)
    frozen = first.manifest["frozen"]
    all_ran_frozen = all(bundle.manifest["frozen"] == frozen for bundle in others)
    return write(bench, records, texts, target, frozen if all_ran_frozen else None)


def differences(mine: Bundle, other: Bundle) -> Iterator[str]:
    """Yield what two bundles must have in common and have not, each with both values."""
    a, b = mine.bench, other.bench
    for key in ("sha256", "files"):
        yield from _differ(f"base {key}", {**a["base"]}.get(key), {**b["base"]}.get(key))
    yield from _differ("budget", a["flops_budget"], b["flops_budget"])
    yield from _differ("tasks", a["tasks"], b["tasks"])
    kinds = a.get("data", {}).keys() & b.get("data", {}).keys()
    if not kinds:
        yield "data: they name no set in common, so that none can be compared"
    for kind in sorted(kinds):
        here, there = _hashes_by_seed(a, kind), _hashes_by_seed(b, kind)
        for seed in sorted(here.keys() & there.keys()):
            yield from _differ(f"data: {kind} of seed {seed}", here[seed][:12], there[seed][:12])
    for ref in sorted(a.get("hashes", {}).keys() & b.get("hashes", {}).keys()):
        yield from _differ(f"hash of {ref}", a["hashes"][ref][:12], b["hashes"][ref][:12])
    for key in sorted((a["spec"].keys() | b["spec"].keys()) - UNIMPORTANT):
        one, two = a["spec"].get(key), b["spec"].get(key)
        if not (key in HASHED and isinstance(one, str) and isinstance(two, str)):
            yield from _differ(key, one, two)
    meters = [sorted({str(one.get("meter_version")) for one in x.manifest["environments"]}) for x in (mine, other)]
    yield from _differ("meter version", *meters)


def _differ(what: str, mine: object, other: object) -> Iterator[str]:
    if mine != other:
        yield f"{what}: {other!r}, not {mine!r}"


def _join(rows: dict[str, Cells], planned: dict[str, Planned], bundle: Bundle, origins: dict[str, Bundle]) -> None:
    """Add the rows of a bundle, each under its own name, or beside the row of that name, which `origins` tells."""
    names = {row: row if _is_same(rows.get(row), cells, bundle, origins.get(row)) else f"{row}.{bundle.mark}"
             for row, cells in bundle.rows.items()}  # fmt: skip
    for row, cells in bundle.rows.items():
        mine = rows.setdefault(names[row], {})
        origins.setdefault(names[row], bundle)
        for seed, record in cells.items():
            start = names.get(start_of(record), start_of(record))
            if seed in mine:
                mine[seed] = _both(mine[seed], record)
            else:
                moved: Record = {**record, "row": names[row], "tier": record.get("tier", "recomputed")}
                if "at_share_of" in record:
                    moved["at_share_of"] = _owner(record["at_share_of"], row, names, bundle)
                mine[seed] = moved if start == START else {**moved, "start": start}
    for plan in bundle.bench["algorithms"]:
        name = names.get(plan["row"], plan["row"])
        renamed: Planned = {**plan, "row": name}
        if "at_share_of" in plan:
            renamed["at_share_of"] = _owner(plan["at_share_of"], plan["row"], names, bundle)
        planned.setdefault(name, renamed)


def _both(mine: Record, other: Record) -> Record:
    """Return a record that two bundles have: "re-run" if somebody trained it again, with the flags of both.

    A record that both took from one run has the same seconds to the last digit.
    """
    again = mine["weights_sha256"] is not None and mine["wall_seconds"] != other["wall_seconds"]
    both: Record = {**mine, "flags": sorted({*mine["flags"], *other["flags"]})}
    return {**both, "tier": "re-run"} if again and mine["status"] == "ok" else both


def _owner(owner: str | None, row: str, names: Mapping[str, str], bundle: Bundle) -> str | None:
    """Return what the joined board calls the row whose other share of the budget `row` is.

    Where `row` stands beside one of its name, so does its curve, and no curve has two points at one share.
    """
    if owner is None:
        return None
    return names.get(owner, owner) if names.get(row, row) == row else f"{owner}.{bundle.mark}"


def _is_same(mine: Cells | None, cells: Cells, bundle: Bundle, origin: Bundle | None) -> bool:
    """Whether the records of two bundles are of one row: same code, same settings, same end where seeds meet.

    `origin` is the bundle that brought the row. Where no seeds meet, no weights tell whether another core trains alike.
    """
    if mine is None or origin is None:
        return True
    one, other = next(iter(mine.values())), next(iter(cells.values()))
    shared = mine.keys() & cells.keys()
    code = {one["plugin"] or "", *(() if shared else ("zoo-core",))}
    if _what(one) != _what(other) or any(_code_of(name, origin) != _code_of(name, bundle) for name in code):
        return False
    return all(_end(cells[seed], mine[seed]) == _end(mine[seed], cells[seed]) for seed in shared)


def _end(record: Record, other: Record) -> tuple[object, ...]:
    """What a cell ended with, and its scores where they were taken in the same environment as the other's."""
    there = record["environment"] == other["environment"]
    return record["status"], record["weights_sha256"], record["scores"] if there else None


def _what(record: Record) -> tuple[object, ...]:
    trials = record.get("trials")
    return (
        record["kind"],
        record["algorithm"],
        record["plugin"],
        # Each seed of a tuned row has its own settings. Two people call one file differently, and other files alike.
        len(trials["tried"]) if trials else {**record["settings"], **record.get("files", {})},
        record["reward"],
        record.get("control"),
        record.get("budget_share", 1.0),
    )


def _code_of(distribution: str, bundle: Bundle) -> str | None:
    code = bundle.bench.get("code", {}).get(distribution)
    return code["sha256"] if code else None


def _bench(bundles: Sequence[Bundle], planned: Sequence[Planned], rows: Mapping[str, Cells]) -> Bench:
    """The plan of the joined board."""
    benches = [bundle.bench for bundle in bundles]
    commits = {bench.get("commit") for bench in benches}
    names = [bundle.manifest["sha256"] for bundle in bundles]
    seeds = {seed for bench in benches for seed in seeds_of(bench)}
    code: dict[str, Code] = {}
    for bundle in bundles:
        for name, one in bundle.bench.get("code", {}).items():
            code[name if code.get(name, one) == one else f"{name}.{bundle.mark}"] = one
    return {
        **benches[0],
        "bench_id": hashlib.sha256("".join(names).encode()).hexdigest()[:24],
        "seeds": len(seeds),
        "algorithms": [plan for plan in planned if plan["row"] in rows],
        "data": _data(benches),
        "hashes": {ref: one for bench in benches for ref, one in bench.get("hashes", {}).items()},
        "code": code,
        "commit": commits.pop() if len(commits) == 1 else None,
        "grew": any(bench.get("grew") for bench in benches) or set(rows) != set(bundles[0].rows),
        "sources": [bundle.source for bundle in bundles],
    }


def _data(benches: Sequence[Bench]) -> dict[str, DataSet]:
    """Each data set with the seeds of all bundles, in their order."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    whole: dict[str, Mapping[str, Any]] = {}
    for bench in benches:
        for kind, data in bench.get("data", {}).items():
            whole.setdefault(kind, data)
            values: Mapping[str, Any] = data
            for place, seed in enumerate(seeds_of_data(bench, data)):
                of_seed = {name: values[name][place] for name in PER_SEED if name in values}
                found.setdefault(kind, {}).setdefault(seed, of_seed)
    joined: dict[str, dict[str, Any]] = {}
    for kind, of_seeds in found.items():
        numbers = sorted(of_seeds)
        shared = set.intersection(*(set(one) for one in of_seeds.values()))
        lists = {name: [of_seeds[seed][name] for seed in numbers] for name in PER_SEED if name in shared}
        of_all = {name: value for name, value in whole[kind].items() if name not in PER_SEED}
        joined[kind] = {**of_all, **lists, "seeds": numbers}
    return cast(dict[str, DataSet], joined)


def _hashes_by_seed(bench: Bench, kind: str) -> dict[int, str]:
    data = bench["data"][kind]
    return dict(zip(seeds_of_data(bench, data), data["sha256"], strict=True))
