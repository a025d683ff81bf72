"""Write the results in the READMEs from the boards that are published in leaderboard/published.

python tests/results.py                 compute pages and tables of all published bundles again, and write the READMEs
python tests/results.py FOLDER NAME     before that, publish the bench of docs/results/NAME that ended in FOLDER
"""

import io
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from zoo_leaderboard.board import build
from zoo_leaderboard.bundle import BENCH, RECORDS, pack, read_manifest, write
from zoo_leaderboard.cells import START
from zoo_leaderboard.columns import facts, interval, number, remarks, scientific, used
from zoo_leaderboard.load import load
from zoo_leaderboard.render import table
from zoo_leaderboard.schema import BEST_OF, Planned

from zoo_core.registry.plugins import plugins

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "leaderboard" / "published"
README = ROOT / "README.md"
WIDE = 80
"""Characters of the terminal that the README's board is printed by."""
END = "<!-- end of result -->"

Board = Mapping[str, Any]


@dataclass(frozen=True)
class Shown:
    """A published board whose rows the READMEs of their plugins show."""

    name: str

    @property
    def spec(self) -> str:
        """Where its spec is."""
        return f"docs/results/{self.name}/spec.yaml"

    @property
    def bundle(self) -> Path:
        """Where it is published."""
        return PUBLISHED / self.name

    @property
    def begin(self) -> str:
        """What stands in a README before its numbers."""
        return f"<!-- result: from {self.bundle.relative_to(ROOT)} -->"

    def board(self) -> Board:
        """Compute it from its records."""
        return build(*load(self.bundle))

    def readmes(self) -> list[Path]:
        """Return the READMEs that show it."""
        return [path for path in sorted(ROOT.glob("plugins/*/README.md")) if self.begin in path.read_text()]

    def between(self, text: str, lines: Iterable[str]) -> str:
        """Return a README with these lines between the markers."""
        head, _, rest = text.partition(self.begin)
        _, _, tail = rest.partition(END)
        return "\n".join([f"{head}{self.begin}", "", *lines, "", f"{END}{tail}"])


QUICK = Shown("quick")
SHOWN = (QUICK, Shown("more"))


def result(shown: Shown, board: Board, plugin: str) -> list[str]:
    """Return what the README of a plugin shows of a board: the command, the commit, and the numbers to expect."""
    rows = [row for row in board["rows"] if row["plugin"] == f"zoo-{plugin}" and row["kind"] == "algorithm"]
    table = _rows(board, rows) if rows else _stage(board, plugin)
    named = rows or _with_stage(board, plugin)[:1]
    return [
        f"    {command(board, sorted(row['row'] for row in named))}",
        "",
        f"At commit `{board['commit'][:12]}` this command gave the numbers below",
        f"({facts(board)}).",
        "World 0 is a development world, on which defaults were searched, and three seeds separate only large",
        "differences.",
        "",
        *table,
        "",
        f"`{shown.bundle.relative_to(ROOT)}/README.md` has the whole board, and `docs/board.md` says how to read it.",
    ]


def command(board: Board, rows: Iterable[str] = ()) -> str:
    """Return what repeats the committed bench, or only these rows of it."""
    words = shlex.split(board["command"].removeprefix("zoo bench "))
    words += ["--algorithms", ",".join(rows)] if rows else []
    return f'make bench ARGS="{shlex.join(words)}"'


def _rows(board: Board, rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a table of these rows, `best-of-n` and `start`."""
    beside = [row for row in board["rows"] if row["row"] == START or row["row"].startswith(BEST_OF)]
    yield "| row | headroom gained | gold | proxy | KL | used | notes |"
    yield "|---|---|---|---|---|---|---|"
    for row in [*rows, *beside]:
        cells = [
            f"`{row['row']}`",
            interval(row["headline"]),
            number(row["gold"]["mean"]),
            number(row["proxy"]["mean"], signed=True),
            number(row["kl_start"]["mean"], digits=1),
            used(row),
            remarks(row),
        ]
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield "Brackets hold 95 % t-intervals over seeds. Proxy is in standard deviations of `start`, and KL in nats per"
    yield "response. *Used* is the share of the budget."


def _stage(board: Board, name: str) -> Iterator[str]:
    """Yield what a stage of this name costs the rows that start from it, and how good its reward is."""
    rows = _with_stage(board, name)
    stage = next(stage for stage in rows[0]["stages"] if stage["name"] == name)
    yield "| stage | share of a row's budget | FLOPs | seconds |"
    yield "|---|---|---|---|"
    yield f"| `{name}` | {stage['share']:.1%} | {scientific(stage['flops'])} | {number(stage['seconds'], 0)} |"
    yield ""
    names = ", ".join(sorted(f"`{row['row']}`" for row in rows))
    yield f"These rows pay for it: {names}."
    if agreement := board["agreement"].get("proxy"):
        agreed = f"{agreement['accuracy']:.0%} [{agreement['low']:.0%}, {agreement['high']:.0%}]"
        yield f"It agrees with the labels of {agreed} of {agreement['pairs']} pairs that no row saw."
        yield f'The baseline "the shorter answer wins" agrees with {agreement["shorter"]:.0%}.'


def _with_stage(board: Board, name: str) -> list[Mapping[str, Any]]:
    """Return the ranked kind of rows that paid for a stage of this name."""
    rows = [row for row in board["rows"] if row["kind"] == "algorithm"]
    return [row for row in rows if any(stage["name"] == name for stage in row["stages"])]


def sample() -> list[str]:
    """Return what the README shows: the board of the rows that run by default, in 80 characters."""
    bench, records = load(QUICK.bundle)
    named = {one.name for one in plugins().algorithms.values() if (one.competes and one.by_default) or one.reference}
    left_out = {record["row"] for record in records if record["algorithm"] not in named and record["algorithm"]}
    rows: list[Planned] = [one for one in bench["algorithms"] if one["row"] not in left_out]
    board = build(
        {**bench, "name": "quick", "algorithms": rows}, [one for one in records if one["row"] not in left_out]
    )
    screen = Console(file=io.StringIO(), width=WIDE, markup=False, emoji=False, highlight=False)
    screen.print(table(board, WIDE))
    for line in [*board["answer"], f"note: {board['conditional_notes'][0]}"]:
        screen.print(line)
    assert isinstance(screen.file, io.StringIO)
    lines = screen.file.getvalue().splitlines()
    lines.append("results: zoo-runs/quick (leaderboard.html, .md, .csv, .json)")
    return [f"    {line}".rstrip() for line in lines]


def with_sample(text: str, lines: Iterable[str]) -> str:
    """Return the README with this board in it: the block that begins with the board's name and ends with `results:`."""
    start = text.index("    quick · preset quick")
    end = text.index("\n", text.index("    results: zoo-runs/quick", start))
    return text[:start] + "\n".join(lines) + text[end:]


def keep(folder: Path, shown: Shown) -> None:
    """Publish a finished bench; `SystemExit` if the commit that it ran at does not hold the spec."""
    commit = load(folder)[0].get("commit")
    held = subprocess.run(["git", "show", f"{commit}:{shown.spec}"], cwd=ROOT, capture_output=True)
    if held.stdout != (ROOT / shown.spec).read_bytes():
        sys.exit(f"{shown.spec} of commit {commit} is not that of the working tree.")
    pack(folder, shown.bundle)


def compute_again(bundle: Path) -> None:
    """Write the page and the tables of a published board from its records, and its manifest."""
    bench, records = load(bundle)
    manifest = read_manifest(bundle)
    given = [bundle / BENCH, *sorted((bundle / RECORDS).glob("*.json"))]
    texts = {path.relative_to(bundle).as_posix(): path.read_text() for path in given}
    write(bench, records, texts, bundle, manifest["frozen"], space=manifest["space"])


def main() -> None:
    """Write the bundles and every README."""
    if sys.argv[1:]:
        folder, name = sys.argv[1:]
        keep(Path(folder), Shown(name))
    for bundle in sorted(PUBLISHED.glob("*/")):
        compute_again(bundle)
    README.write_text(with_sample(README.read_text(), sample()))
    for shown in SHOWN:
        board = shown.board()
        for path in shown.readmes():
            path.write_text(shown.between(path.read_text(), result(shown, board, path.parent.name)))


if __name__ == "__main__":
    main()
