"""The commands `zoo tinytown build` and `zoo tinytown gates`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from zoo_tinytown.references import LAST_WRITTEN, base_directory, parse_number

from zoo_core.errors import ModelError, SpecError, did_you_mean

app = typer.Typer(help="Build and check worlds of Tinytown.", no_args_is_help=True, rich_markup_mode=None)

World = Annotated[str, typer.Option(help="Number of the world.")]


@app.command()
def build(
    world: World,
    out: Annotated[Path | None, typer.Option(help="Directory to write to; the cache if not given.")] = None,
    steps: Annotated[int | None, typer.Option(min=60, help="Training steps; the recipe's own if not given.")] = None,
    size: Annotated[str, typer.Option(help="base (0.6 M parameters) or base-3m.")] = "base",
    seeds: Annotated[int, typer.Option(min=0, help="Seeds whose pairs are sampled at once, for benches.")] = 3,
) -> None:
    """Train the base model of a world, on a GPU if there is one; run it again to go on after an interruption."""
    number = parse_number(world, "--world", SpecError)
    from zoo_tinytown_gold.build import SIZES, Recipe
    from zoo_tinytown_gold.build import build as train
    from zoo_tinytown_gold.world import get_world

    if size not in SIZES:
        raise SpecError(f"--size {size}: {did_you_mean(size, SIZES)}")
    directory = out or base_directory(number, size)
    recipe = Recipe(steps=steps, size=size) if steps else Recipe(size=size)
    if (directory / LAST_WRITTEN).exists():
        typer.echo(f"The {size} model of world {number} is already in {directory}.")
    else:
        with _bar(f"World {number}", recipe.steps) as advance, _one_thread():
            train(get_world(number), directory, recipe, advance)
        typer.echo(f"Wrote the {size} model of world {number} to {directory}.")
    if out is None and size == "base":
        from zoo_tinytown_gold.samples import start_pairs

        with _one_thread():
            for seed in range(seeds):
                start_pairs(get_world(number), seed)


@app.command()
def gates(
    world: World,
    directory: Annotated[Path | None, typer.Option(help="Where its base model is.")] = None,
    save: Annotated[Path | None, typer.Option(help="JSON file to add the figures to, beside other worlds'.")] = None,
) -> None:
    """Measure the gates of a world, one line each, in some ten minutes; exit with 1 if one fails."""
    number = parse_number(world, "--world", SpecError)
    directory = directory or base_directory(number)
    if not (directory / LAST_WRITTEN).is_file():
        raise ModelError(f"No base model is in {directory}. Run `zoo tinytown build --world {number}` first.")
    from zoo_tinytown_gold.gates import Gates
    from zoo_tinytown_gold.table import add
    from zoo_tinytown_gold.world import get_world

    measured = []
    with _one_thread():
        for gate in Gates(get_world(number), directory).measure():
            measured.append(gate)
            verdict = "reported" if not gate.must_be else "ok" if gate.passes else "FAILED"
            typer.echo(f"{verdict:9}{gate.name}: {gate.figure:.3f}{gate.must_be and f' ({gate.must_be})'}")
    if save:
        add(save, number, measured)
    raise typer.Exit(code=0 if all(gate.passes for gate in measured) else 1)


@app.command()
def table(
    figures: Annotated[Path, typer.Argument(help="What `gates --save` wrote.")],
    readme: Annotated[Path, typer.Argument(help="Markdown file whose table of gates is written anew.")],
) -> None:
    """Write the figures of all worlds into a README, between its marks."""
    from zoo_core.storage.atomic import write_text
    from zoo_tinytown_gold.table import with_table

    write_text(readme, with_table(readme.read_text(), figures))


@contextmanager
def _bar(title: str, steps: int) -> Iterator[Callable[[int, float], None]]:
    """A bar with the loss and the time left."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    text, loss = TextColumn("{task.description}"), TextColumn("loss {task.fields[loss]:.3f}")
    with Progress(text, BarColumn(), loss, TimeRemainingColumn()) as progress:
        bar = progress.add_task(title, total=steps, loss=float("nan"))
        yield lambda step, loss: progress.update(bar, completed=step, loss=loss)


@contextmanager
def _one_thread() -> Iterator[None]:
    """On a CPU, one thread: two with one core busy take ten times as long as one."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
