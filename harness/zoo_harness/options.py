"""The flags that describe a bench: one for each key of the spec that people change often; `--set` reaches the rest."""

import inspect
import platform
from collections.abc import Callable, Sequence
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from zoo_core.errors import SpecError

if TYPE_CHECKING:
    from zoo_harness.spec.schema import Spec

SPEC = Annotated[Path | None, typer.Argument(metavar="[SPEC.yaml]", help="A spec; flags override its keys.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _tell_versions(asked: bool) -> None:
    """Print the versions that a report of a fault should name, and end."""
    if asked:
        others = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "lm-eval"))
        typer.echo(f"zoo-harness {version('zoo-harness')}, zoo-core {version('zoo-core')}")
        typer.echo(f"Python {platform.python_version()}, {others}; {platform.platform()}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", help="Print versions.", callback=_tell_versions, is_eager=True)]
SETTINGS = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A setting (ppo.epochs=4) or any other key of the spec (limits.prompts=500). May be repeated.",
    ),
]
PLUGINS = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        metavar="PATH",
        help="A plugin that is not installed: a .py file, or the folder of its pyproject.toml. May be repeated.",
    ),
]


def _flag(kind: type, words: str) -> object:
    return Annotated[kind | None, typer.Option(help=words)]


FLAGS: dict[str, object] = {
    "preset": _flag(str, "smoke, quick (the default), board or full."),
    "base": _flag(str, "Base model: tinytown:base, a directory, a hub id."),
    "demonstrations": _flag(str, "Prompts with answers: a file, a directory, a hub id."),
    "preferences": _flag(str, "Prompts with a chosen and a rejected answer."),
    "prompts": _flag(str, "Prompts alone."),
    "reward": _flag(str, "preferences (train one), a scorer, or module:function."),
    "gold": _flag(str, "The hidden reward of the board."),
    "algorithms": _flag(str, "Names with commas between them, or all; left out, those that run by default."),
    "controls": _flag(bool, "Train rows as well that should gain nothing: on length, noise, shuffled labels."),
    "budget": _flag(str, "FLOPs (2e13) or a time (90s)."),
    "budgets": _flag(str, "Shares of the budget (1/4,1,4) at which every algorithm is trained as well."),
    "trials": _flag(int, "Tuned rows as well: so many trials choose their settings, charged to their budget."),
    "seeds": _flag(int, "Seeds; each draws labels, stages, reward model, prompts."),
    "tasks": _flag(str, "lm-eval tasks, with commas between them; none for no task."),
    "tracker": _flag(str, "tensorboard, wandb, trackio: watch every training."),
}
"""By key of the spec: the flag of the same name."""
LISTS = ("algorithms", "tasks", "budgets")
"""Keys whose flag holds several words with commas between them."""


class ReadSpec(Protocol):
    """What a command calls to have the spec that its flags describe."""

    def __call__(self, **fixed: object) -> "Spec":
        """Read it; `fixed` are keys that the command itself decides."""


def describes_a_bench(
    *keys: str, trains: bool = True, behind: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command SPEC.yaml, `--set`, `--plugin` and the flags of these keys; it is called with `read` instead.

    Where the command trains nothing, data sets and rows are not looked at. SPEC.yaml may be the last of the several
    words that the argument `behind` takes.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        flags = {key: FLAGS[key] for key in keys} | {"settings": SETTINGS, "plugins": PLUGINS}
        if behind is None:
            flags = {"spec": SPEC, **flags}
        own = [one for name, one in inspect.signature(command).parameters.items() if name != "read"]
        arguments = [one for one in own if one.default is one.empty]  # click wants them first
        kind = inspect.Parameter.KEYWORD_ONLY
        added = [inspect.Parameter(name, kind, default=None, annotation=flag) for name, flag in flags.items()]
        others = [one.replace(kind=kind) for one in own if one not in arguments]

        @wraps(command)
        def run(**given: object) -> None:
            values = {"spec": None} | {name: given.pop(name) for name in flags}
            if behind is not None:
                given[behind], values["spec"] = _without_spec(given[behind])
            command(read=lambda **fixed: _read(values, fixed, trains), **given)

        signature = inspect.Signature([*(one.replace(kind=kind) for one in arguments), *added, *others])
        run.__signature__ = signature  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in signature.parameters.values()}
        return run

    return decorate


def _without_spec(words: object) -> tuple[list[str], str | None]:
    """Tell the names in a list of words from the spec that may stand behind them."""
    assert isinstance(words, list)
    specs = [word for word in words if word.endswith((".yaml", ".yml"))]
    if len(specs) > 1:
        raise SpecError(f"one spec at a time, and {' and '.join(specs)} were given.")
    return [word for word in words if word not in specs], specs[0] if specs else None


def pair_of(flag: str, text: str) -> tuple[str, str]:
    """Return key and value of KEY=VALUE."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise SpecError(f"{flag} {text}: write it as KEY=VALUE, for example --set ppo.epochs=4.")
    return key, value


def _read(values: dict[str, object], fixed: dict[str, object], trains: bool = False) -> "Spec":
    from zoo_harness.spec.check import check_bench, check_references
    from zoo_harness.spec.read import read

    paths = values.pop("plugins", None)
    assert isinstance(paths, list | None)
    load_named(paths)
    given = {key: value for key, value in values.items() if key in FLAGS and key != "preset" and value is not None}
    flags = {key: _names(key, str(value)) if key in LISTS else value for key, value in given.items()}
    file, preset, settings = values["spec"], values.get("preset"), values["settings"]
    assert isinstance(settings, Sequence | None)
    spec = read(
        Path(str(file)) if file else None,
        None if preset is None else str(preset),
        {**flags, **fixed},
        pairs_of(settings),
    )
    if trains:
        check_bench(spec)
    else:
        check_references(spec)
    return spec


def load_named(paths: Sequence[Path] | None) -> None:
    """Load the plugins that `--plugin` names beside those that are installed."""
    from zoo_core.registry.plugins import load_without
    from zoo_core.registry.uninstalled import use_plugins

    if paths:
        use_plugins(paths)
        load_without(())


def _names(key: str, text: str) -> list[str] | str:
    """Return words that stand with commas between them; a bench without tasks is meant by none, or by nothing."""
    if key == "tasks" and text.strip() in ("", "none"):
        return []
    return [name.strip() for name in text.split(",")] if text else text


def pairs_of(settings: Sequence[str] | None) -> dict[str, object]:
    """Return keys and values of what was given by `--set`."""
    from zoo_core.storage.yaml_files import parse_yaml

    found: dict[str, object] = {}
    for key, value in (pair_of("--set", setting) for setting in settings or ()):
        if key in found:
            raise SpecError(f"--set {key}: is given twice; keep one.")
        found[key] = parse_yaml(value, f"--set {key}={value}")
    return found
