"""`zoo plugins`: what is installed, and what authors of plugins need: a new one, and a check of one.

Heavy modules are imported inside the commands.
"""

import json
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo_core.errors import PluginError, SpecError
from zoo_harness.console import console, print_found, shown
from zoo_harness.options import SETTINGS, AsJson, load_named, pairs_of

if TYPE_CHECKING:
    from rich.console import Console

    from zoo_core.records import Algorithm
    from zoo_harness.testing.conformance import Law

app = typer.Typer(rich_markup_mode=None, invoke_without_command=True, help="The installed plugins, and new ones.")


@app.callback()
def default(context: typer.Context, as_json: AsJson = False) -> None:
    """Show the installed plugins."""
    if context.invoked_subcommand is None:
        list_all(as_json)


@app.command("list")
def list_all(as_json: AsJson = False) -> None:
    """Show every installed plugin, what it provides, and why a broken one is not loaded."""
    from zoo_core.registry.plugins import plugins

    found = plugins().plugins
    if as_json:
        sys.stdout.write(json.dumps([vars(plugin) for plugin in found], indent=1, sort_keys=True) + "\n")
        return
    from zoo_harness.show import plugins_table

    console().print(plugins_table(found))


@app.command()
def show(name: Annotated[str, typer.Argument(help="An algorithm.")], as_json: AsJson = False) -> None:
    """Show the settings of an algorithm: defaults, where they come from, and what a search tries."""
    from zoo_harness.describe import described, settings_table

    found = described(name)
    print_found(found, partial(settings_table, found), [], as_json)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Of the algorithm: lower case, digits and hyphens.")],
    directory: Annotated[Path | None, typer.Option(help="Where to make it (default: zoo-NAME, here).")] = None,
) -> None:
    """Write a distribution with one algorithm that works: a start for your own."""
    from zoo_harness.scaffold import write_plugin

    folder = write_plugin(name, directory or Path(f"zoo-{name}"))
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            console().print(shown(path.resolve()), soft_wrap=True)
    console().print(
        f"\nChange loss.py and train.py, then:\n"
        f"  zoo plugins check {folder}\n"
        f"  zoo bench --preset smoke --plugin {folder} --algorithms dpo,{name}",
        soft_wrap=True,
    )


@app.command()
def check(
    plugin: Annotated[
        str, typer.Argument(metavar="NAME|PATH", help="An algorithm; or a .py file, or the folder of a pyproject.toml.")
    ],
    settings: SETTINGS = None,
    loops: Annotated[int, typer.Option(min=1, help="Loops that follow each other in a run, as in RLAIF.")] = 1,
    only: Annotated[str, typer.Option(metavar="WORDS", help="Only laws with these words; no badge.")] = "",
    as_json: AsJson = False,
) -> None:
    """Run the suite that every algorithm must pass; the board of a bench shows what held.

    `--set batch_size=8` replaces a default that is too large for the suite's 24 rows.
    """
    algorithms = _algorithms_of(plugin)
    if find_spec("pytest") is None:
        raise SpecError("the suite needs pytest, which is not installed: pip install 'zoo-harness[testing]'")
    from zoo_harness.prepare import cache_folder
    from zoo_harness.testing.conformance import check as run

    screen = console(stderr=as_json)
    all_hold = True
    for algorithm in algorithms:
        screen.print(f"{algorithm.name}: {algorithm.summary}", soft_wrap=True)
        found = run(algorithm, pairs_of(settings), loops, only, cache_folder().parent, partial(_tell, screen))
        all_hold &= found["held"] == found["tried"]
        screen.print(f"{found['held']} of {found['tried']} laws hold")
        if as_json:
            sys.stdout.write(json.dumps(found, indent=1, sort_keys=True) + "\n")
    if not all_hold:
        raise typer.Exit(1)


def _algorithms_of(plugin: str) -> "list[Algorithm]":
    """Return the algorithm of that name, or those of a plugin that is not installed."""
    from zoo_core.registry.plugins import plugins

    path = Path(plugin)
    if plugin in plugins().algorithms or not (path.exists() or path.suffix or len(path.parts) > 1):
        return [plugins().algorithm(plugin)]
    load_named([path])
    mine = [one for one in plugins().plugins if one.path == str(path.resolve())]
    for one in mine:
        if one.status != "ok":
            raise PluginError(one.fault)
    names = [name for one in mine for name in one.provides if name in plugins().algorithms]
    if not names:
        raise SpecError(f"{plugin}: it provides no algorithm, and the suite is for algorithms.")
    return [plugins().algorithm(name) for name in names]


def _tell(screen: "Console", law: "Law") -> None:
    screen.print(f"  {law.outcome:7}  {law.words}", style="red" if law.outcome == "FAILS" else None, soft_wrap=True)
    for line in law.why.splitlines():
        screen.print(f"           {line}", soft_wrap=True)
