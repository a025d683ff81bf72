"""A command: `zoo hello there`."""

import typer

from zoo_core.hookspecs import hookimpl
from zoo_core.records import Command

app = typer.Typer(help="Greets.")


@app.callback()
def greetings() -> None:
    """Greet."""


@app.command()
def there(name: str = "you") -> None:
    """Say hello."""
    typer.echo(f"hello, {name}")


@hookimpl
def zoo_commands() -> list[Command]:
    """Return the group `hello`."""
    return [Command(name="hello", summary="Greets", app=f"{__name__}:app")]
