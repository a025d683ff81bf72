"""`zoo leaderboard`: build a board again, publish it, check one that was published, join several.

Heavy modules are imported inside the commands.
"""

import subprocess
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from zoo_core.errors import SpecError
from zoo_harness.console import console, print_found, shown
from zoo_harness.options import AsJson

if TYPE_CHECKING:
    from zoo_leaderboard.board import Board
    from zoo_leaderboard.bundle import Frozen, Manifest


class _ShowsAFolder(TyperGroup):
    """A group whose commands may be left out: `zoo leaderboard FOLDER` is `zoo leaderboard show FOLDER`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        if args and args[0] != "--help" and args[0] not in self.commands:
            args = ["show", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_ShowsAFolder,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Boards: `zoo leaderboard FOLDER` builds that of a bench again and prints it.",
)


@app.command()
def show(
    folder: Annotated[Path, typer.Argument(help="A folder that `zoo bench` wrote, or a bundle.")],
    pair: Annotated[
        str | None, typer.Option(metavar="A,B", help="Say how two rows compare, and how many seeds would tell.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Build the board of a folder again from its records, and print it."""
    from zoo_leaderboard.board import build
    from zoo_leaderboard.bundle import MANIFEST
    from zoo_leaderboard.load import load
    from zoo_leaderboard.write import write

    board = build(*load(folder))
    if not (folder / MANIFEST).exists():  # a bundle is complete, and no file of it is changed
        write(board, folder)
    if pair is None:
        print_board(board, as_json)
        return
    from zoo_leaderboard.ranks import in_words, pair_of

    names = [name.strip() for name in pair.split(",")]
    found = pair_of(board["pairs"], names)
    if found is None:
        known = sorted({name for one in board["pairs"] for name in (one["a"], one["b"])})
        raise SpecError(
            f"--pair {pair}: no two rows of this board that can be compared. These can: {', '.join(known) or 'none'}."
        )
    console().print(in_words(found), soft_wrap=True)


@app.command()
def publish(
    folder: Annotated[Path, typer.Argument(help="A folder that `zoo bench` wrote.")],
    target: Annotated[Path, typer.Argument(help="A new or empty folder for the bundle, or that of an older one.")],
    tag: Annotated[
        str | None,
        typer.Option(help="Tag of this repository that froze code and settings; the bench must have run at it."),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write the board for others, too: Every Eval Ever, and model-index."),
    ] = None,
    to_hub: Annotated[
        str | None, typer.Option(metavar="NAME", help="Upload the bundle to this Space of Hugging Face, as USER/BOARD.")
    ] = None,
) -> None:
    """Write a bundle that strangers can check: page, tables, records, and a manifest with every file's hash."""
    from zoo_leaderboard.bundle import check_outside, pack
    from zoo_leaderboard.load import load

    if export is not None:
        check_outside(export, target)
    frozen = _frozen(tag, load(folder)[0].get("commit")) if tag else None
    _say_what_was_written(pack(folder, target, frozen, space=to_hub is not None), target)
    if export is not None:
        _export(folder, export)
    if to_hub is not None:
        from zoo_harness.hub import upload

        console().print(f"on the hub: {upload(target, to_hub)}", soft_wrap=True)


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle.")],
    rescore: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Score again from the checkpoints in this bench's folder.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Jobs at once (default: one per core).")] = None,
    as_json: AsJson = False,
) -> None:
    """Compute every number of a bundle again, and check every byte; exit 1 if anything is wrong."""
    from zoo_leaderboard.verify import verify

    verdict, screen = verify(bundle), console()
    faults = [str(fault) for fault in verdict.faults]
    if verdict.board is not None and not faults:
        print_board(verdict.board, as_json)
        if rescore is not None:
            faults += _rescore(bundle, rescore, workers)
    if not as_json:
        for note in verdict.notes:
            screen.print(f"note: {note}", soft_wrap=True)
    for fault in faults:
        console(stderr=True).print(f"error: {fault}", style="red", soft_wrap=True)
    if faults:
        raise typer.Exit(1)
    if not as_json:
        files, sha256 = len(verdict.manifest["files"]), verdict.manifest["sha256"]
        which = "all numbers" if verdict.page_compared else "all numbers but those of page and tables"
        screen.print(
            f"recomputed: {files} files have their hashes, and {which} follow from {len(verdict.records)} records. "
            f"bundle {sha256}",
            soft_wrap=True,
        )


@app.command()
def merge(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE BUNDLE...", help="Two bundles or more.")],
    output: Annotated[Path, typer.Option(help="A new or empty folder for the joined bundle, or that of an older one.")],
) -> None:
    """Join bundles of different people, if base, data, budget, tasks and meter are the same."""
    from zoo_leaderboard.merge import merge

    if len(bundles) < 2:
        raise SpecError("name two bundles or more: zoo leaderboard merge A B --output C")
    _say_what_was_written(merge(bundles, output), output)


def print_board(board: "Board", as_json: bool) -> None:
    """Print a board, how rows compare at several budgets, what it says in words, and its notes."""
    from zoo_leaderboard.render import budgets_heading, budgets_table, table

    print_found(board, partial(table, board), [], as_json)
    if as_json:
        return
    screen = console()
    if board["budgets"]:
        screen.print(f"\n{budgets_heading(board)}")
        screen.print(budgets_table(board, screen.width))
    for line in [*board["answer"], *(f"note: {note}" for note in board["conditional_notes"])]:
        screen.print(line)


def _say_what_was_written(manifest: "Manifest", target: Path) -> None:
    screen = console()
    screen.print(f"bundle: {shown(target.resolve())} ({len(manifest['files']) + 1} files)", soft_wrap=True)
    screen.print(f"sha256: {manifest['sha256']}", soft_wrap=True)
    screen.print(f"check it: zoo leaderboard verify {shown(target.resolve())}", soft_wrap=True)


def _export(folder: Path, target: Path) -> None:
    """Write the board in the formats of others."""
    import time
    from importlib.metadata import version

    from zoo_leaderboard.board import build
    from zoo_leaderboard.export import every_eval_ever, model_index
    from zoo_leaderboard.load import load

    from zoo_core.storage.atomic import write_json

    board = build(*load(folder))
    files = every_eval_ever(board, version("zoo-harness"), int(time.time()))
    files |= {f"model-index/{row}.json": {"model-index": index} for row, index in model_index(board).items()}
    for name, content in files.items():
        write_json(target / name, content)
    console().print(f"for other boards: {shown(target.resolve())} ({len(files)} files)", soft_wrap=True)


def _rescore(bundle: Path, checkpoints: Path, workers: int | None) -> list[str]:
    """Score again, say how that compares, and return what does not agree."""
    from zoo_harness.live import LiveScreen
    from zoo_harness.rescore import rescore
    from zoo_harness.waiting import WaitingScreen

    screen = console(stderr=True)
    with WaitingScreen(screen) as waiting, LiveScreen(screen) as display:
        found = rescore(bundle, checkpoints, waiting, display, workers)
    again = [one for one in found if not one.weightless]
    agree = sum(one.fault is None for one in again)
    screen.print(f"scored again: {agree} of {len(again)} rows and seeds agree", soft_wrap=True)
    left = ", ".join(f"{one.row} seed {one.seed}" for one in found if one.weightless)
    if left:
        screen.print(f"not scored again, because their weights are not in {shown(checkpoints)}: {left}", soft_wrap=True)
    return [f"{one.row} seed {one.seed}: {one.fault}" for one in found if one.fault]


def _frozen(tag: str, commit: str | None) -> "Frozen":
    """Look a tag up in the repository of the present folder; the bench must have run at its commit."""
    named = f"refs/tags/{tag}"
    wanted = ["git", "for-each-ref", "--format=%(creatordate:iso-strict)", named]
    try:
        head = subprocess.run(["git", "rev-list", "-n1", named], capture_output=True, text=True, check=True)
        date = subprocess.run(wanted, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise SpecError(f"--tag {tag}: the repository of this folder has no such tag.") from None
    at = head.stdout.strip()
    if commit != at:
        raise SpecError(f"--tag {tag} is commit {at[:12]}, and the bench ran at {commit or 'no commit'}.")
    return {"tag": tag, "commit": at, "date": date.stdout.strip()}
