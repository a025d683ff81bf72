"""What is wrong with a plugin can be said when it is listed: its record, its entry point, and the code that it names.

Listing must stay fast, so the modules that a record names are read and not imported. What Python would only find out
in the middle of a bench is found all the same: a syntax error, a name that is not there, arguments in another order.
"""

import ast
import importlib.util
from collections.abc import Iterable, Iterator
from dataclasses import fields
from importlib.metadata import EntryPoint
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import TypeGuard, get_args

from zoo_core.errors import PluginError, did_you_mean
from zoo_core.records import Algorithm, Signal

ALIKE = ("zoos", "zoo_plugin", "zoo_plugins", "zoo_core", "rlhf_zoo", "rlhfzoo")
"""Groups of entry points whose author meant `zoo`."""
PATHS = ("config", "train", "untrained", "app", "run")
"""Fields of records that name code."""
PLAIN = {str: "a text", bool: "True or False", int: "a whole number", float: "a number"}


def check_entry(entry: EntryPoint) -> None:
    """Raise `PluginError` for an entry point whose value can be no module's name."""
    if not entry.pattern.match(entry.value):
        raise PluginError(f"the entry point {entry.name} = {entry.value!r} names no module; write PACKAGE.MODULE")


def check_module(module: object, entry: EntryPoint) -> None:
    """Raise `PluginError` for an entry point that names no module, or a module without a hook."""
    if not isinstance(module, ModuleType):
        raise PluginError(
            f"the entry point {entry.name} = {entry.value!r} names {type(module).__name__} {entry.attr!r}; "
            f"name the module alone: {entry.module!r}"
        )
    functions = [name for name, thing in vars(module).items() if name.startswith("zoo_") and callable(thing)]
    unmarked = [name for name in functions if not hasattr(getattr(module, name), "zoo_impl")]
    if unmarked:
        raise PluginError(f"{unmarked[0]} is not marked as a hook: write @hookimpl above it")
    if not functions:
        raise PluginError(f"no hooks found in {module.__name__}: write functions named zoo_... with @hookimpl above")


def check_fields(record: object, hook: str) -> None:
    """Raise `PluginError` for a field of a record that holds something else than its type."""
    for field in fields(record):  # type: ignore[arg-type]
        value = getattr(record, field.name)
        wanted = float if field.type is float and type(value) is int else field.type
        if wanted in PLAIN and type(value) is not wanted:
            raise PluginError(f"{hook}: {field.name}={value!r} must be {PLAIN[wanted]}")
    if isinstance(record, Algorithm):
        _check_signals(record.learns_from, hook)
        if record.stage is not None and not isinstance(record.stage, dict):
            raise PluginError(f"{hook}: stage={record.stage!r} must be None, or the settings of its recipe")


def check_code(record: object, hook: str) -> None:
    """Raise `PluginError` where the code that a record names is not there, or cannot be called as the zoo will."""
    for name in PATHS:
        path = getattr(record, name, None)
        if path is not None:
            place = f"{hook}: {name}={path!r}"
            found = _find(path, place)
            if name == "config" and isinstance(record, Algorithm) and isinstance(found, ast.ClassDef):
                _check_config(found, place)
            elif name == "train" and isinstance(found, ast.FunctionDef):
                _check_train(found, place)
            elif name == "train" and isinstance(found, (ast.AsyncFunctionDef, ast.ClassDef)):
                raise PluginError(f"{place} is not a plain function: write `def {found.name}(config, run):`")


def notes_on(record: Algorithm) -> list[str]:
    """What is allowed and bad for users: settings without a word on what they do."""
    found = _find(record.config, "")
    if not isinstance(found, ast.ClassDef):
        return []
    pairs = pairwise([*found.body, ast.Pass()])
    bare = [ast.unparse(one.target) for one, text in pairs if _is_setting(one) and not _is_text(text)]
    return [f"{record.name}: settings without a docstring: {', '.join(bare)}"] if bare else []


def means_zoo(group: str) -> bool:
    """Whether the author of entry points of this group probably meant `zoo`."""
    return group.startswith("zoo.") or group.replace("-", "_") in ALIKE


def _check_signals(signals: object, hook: str) -> None:
    known = get_args(Signal)
    if not isinstance(signals, tuple):
        one = signals if isinstance(signals, str) else "prompts"
        raise PluginError(f'{hook}: learns_from={signals!r} must be a tuple: write learns_from=("{one}",)')
    for signal in signals:
        if signal not in known:
            raise PluginError(f"{hook}: learns_from: there is no signal {signal!r}. {did_you_mean(str(signal), known)}")


def _find(path: str, place: str) -> ast.AST | None:
    """Return what a module binds to the name; None if it is there and comes from elsewhere."""
    module, _, name = path.partition(":")
    file = _file_of(module, place)
    try:
        tree = ast.parse(file.read_bytes(), str(file))
    except SyntaxError as error:
        raise PluginError(f"{place}: SyntaxError: {error.msg} ({file}:{error.lineno})") from None
    bound = dict(_bound(tree.body))
    if name not in bound and not {"*", "__getattr__"} & set(bound):  # a module may make its names when asked
        raise PluginError(f"{place}: there is no {name!r} in {file}. {did_you_mean(name, bound)}")
    return bound.get(name)


def _file_of(module: str, place: str) -> Path:
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError) as error:
        raise PluginError(f"{place}: {type(error).__name__}: {error}") from None
    if found is None or not found.origin or not found.origin.endswith(".py"):
        raise PluginError(f"{place}: there is no module {module!r}")
    return Path(found.origin)


def _bound(body: Iterable[ast.stmt]) -> Iterator[tuple[str, ast.AST | None]]:
    """Names that statements at the top of a module bind, with the class or function behind them."""
    for one in body:
        if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield one.name, one
        elif isinstance(one, (ast.Import, ast.ImportFrom)):
            yield from (((alias.asname or alias.name).partition(".")[0], None) for alias in one.names)
        elif isinstance(one, (ast.If, ast.Try, ast.With, ast.For, ast.While)):
            inner = [getattr(one, part, []) for part in ("body", "orelse", "finalbody")]
            inner += [handler.body for handler in getattr(one, "handlers", [])]
            for part in inner:
                yield from _bound(part)
        else:
            names = (node for node in ast.walk(one) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
            yield from ((node.id, None) for node in names)


def _check_config(config: ast.ClassDef, place: str) -> None:
    marks = [mark for mark in config.decorator_list if "dataclass" in ast.unparse(mark)]
    if not config.decorator_list and not config.bases:
        raise PluginError(f"{place} is no dataclass: write @dataclass(frozen=True) above it")
    for mark in marks:
        words = {word.arg: word.value for word in mark.keywords} if isinstance(mark, ast.Call) else {}
        frozen = words.get("frozen")
        if isinstance(frozen, ast.Constant) and frozen.value is True:
            return
        raise PluginError(f"{place} is not frozen: write @dataclass(frozen=True) above it")


def _check_train(train: ast.FunctionDef, place: str) -> None:
    given = train.args
    names = [one.arg for one in [*given.posonlyargs, *given.args]]
    bare = names[: len(names) - len(given.defaults)]
    required = [one.arg for one, default in zip(given.kwonlyargs, given.kw_defaults, strict=True) if default is None]
    if names[:2] == ["run", "config"]:
        raise PluginError(f"{place} takes (run, config); the order is train(config, run)")
    if len(bare) > 2 or required or (len(names) < 2 and not given.vararg):
        raise PluginError(f"{place} takes ({', '.join([*names, *required])}); it is called as train(config, run)")
    own = list(_own(train))
    returned = [node.value for node in own if isinstance(node, ast.Return) and node.value is not None]
    yields = any(isinstance(node, (ast.Yield, ast.YieldFrom)) for node in own)
    if not yields and all(isinstance(value, (ast.Constant, ast.Dict)) for value in returned):
        raise PluginError(f"{place} never yields: `yield` metrics once per update, as {{'loss': loss.item()}}")


def _own(function: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function, without those of functions inside it."""
    for node in ast.iter_child_nodes(function):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            yield node
            yield from _own(node)


def _is_setting(node: ast.stmt) -> TypeGuard[ast.AnnAssign]:
    return isinstance(node, ast.AnnAssign) and "ClassVar" not in ast.unparse(node.annotation)


def _is_text(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
