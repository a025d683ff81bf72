"""The commands `zoo tinytown build` and `zoo tinytown gates`."""

from pathlib import Path
from typing import Annotated

import typer

from zoo_core.errors import ModelError, SpecError
from zoo_tinytown.references import LAST_WRITTEN, base_directory, parse_number

app = typer.Typer(help="Build and check worlds of Tinytown.", no_args_is_help=True, rich_markup_mode=None)

World = Annotated[str, typer.Option(help="Number of the world.")]


@app.command()
def build(
    world: World,
    out: Annotated[Path | None, typer.Option(help="Directory to write to; the cache if not given.")] = None,
    steps: Annotated[int | None, typer.Option(min=60, help="Training steps; the recipe's own if not given.")] = None,
) -> None:
    """Train the base model of a world on one core; run it again to go on after an interruption."""
    number = parse_number(world, "--world", SpecError)
    directory = out or base_directory(number)
    if (directory / LAST_WRITTEN).exists():
        typer.echo(f"The base model of world {number} is already in {directory}.")
        return
    import torch
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from zoo_tinytown.build import Recipe
    from zoo_tinytown.build import build as train
    from zoo_tinytown.world import get_world

    torch.set_num_threads(1)
    recipe = Recipe(steps=steps) if steps else Recipe()
    text, loss = TextColumn("World {task.description}"), TextColumn("loss {task.fields[loss]:.3f}")
    with Progress(text, BarColumn(), loss, TimeRemainingColumn()) as progress:
        bar = progress.add_task(str(number), total=recipe.steps, loss=float("nan"))

        def show(step: int, loss: float) -> None:
            progress.update(bar, completed=step, loss=loss)

        train(get_world(number), directory, recipe, show)
    typer.echo(f"Wrote the base model of world {number} to {directory}.")


@app.command()
def gates(
    world: World,
    directory: Annotated[Path | None, typer.Option(help="Where its base model is.")] = None,
) -> None:
    """Measure the gates of a world, one line each; exit with 1 if one fails."""
    number = parse_number(world, "--world", SpecError)
    directory = directory or base_directory(number)
    if not (directory / LAST_WRITTEN).is_file():
        raise ModelError(f"No base model is in {directory}. Run `zoo tinytown build --world {number}` first.")
    import torch

    from zoo_tinytown.gates import measure
    from zoo_tinytown.world import get_world

    torch.set_num_threads(1)
    failed = 0
    for gate in measure(get_world(number), directory):
        failed += not gate.passes
        verdict = "ok    " if gate.passes else "FAILED"
        typer.echo(f"{verdict} {gate.name}: {gate.figure:.3f} (bounds {gate.low:.3g} to {gate.high:.3g})")
    raise typer.Exit(code=1 if failed else 0)
