"""Plugins that nobody installed: a file, or the folder of a project, named by `--plugin` or in $ZOO_PLUGINS.

An author sees a change at once, without pip. To the rest of the zoo they are distributions like others: the standard
library asks the finder below for them (`importlib.metadata`), in every process that has the environment variable.
"""

import os
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import Distribution, DistributionFinder, EntryPoint
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from zoo_core.errors import PluginError

T = TypeVar("T", str, dict[str, Any])
ENTRY = re.compile(r"[\w.-]+")
"""Names of entry points."""

VARIABLE = "ZOO_PLUGINS"
"""The environment variable with their paths, which the processes of a bench inherit."""


ANY = DistributionFinder.Context()


class Uninstalled(Distribution):
    """A file or a project's folder, seen as a distribution."""

    def __init__(self, path: Path, name: str, version: str, entry_points: Mapping[str, Mapping[str, str]]) -> None:
        self.path, self._entry_points = path, entry_points
        self._metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"

    def read_text(self, filename: str) -> str | None:
        """Return a file of the metadata that an installed distribution would have."""
        if filename == "METADATA":
            return self._metadata
        if filename == "entry_points.txt":
            groups = (
                [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
                for group, entries in self._entry_points.items()
            )
            return "\n".join(line for lines in groups for line in lines)
        return None

    def locate_file(self, path: "str | os.PathLike[str]") -> Path:
        """Return where a file of it is."""
        return (self.path if self.path.is_dir() else self.path.parent) / path


class _Finder(DistributionFinder):
    """Tells the standard library of the plugins that $ZOO_PLUGINS names; it imports nothing."""

    def find_distributions(self, context: DistributionFinder.Context = ANY) -> Iterable[Distribution]:
        found: list[Distribution] = []
        for path in _named():
            with suppress(PluginError):  # said by `make_findable`; here any library may be asking, for its own ends
                found.append(_distribution(path))
        return [one for one in found if context.name in (None, one.metadata["Name"])]

    def find_spec(self, *_: object) -> None:
        return None


def use_plugins(paths: Iterable[Path]) -> None:
    """Have this process and its children see these plugins, besides those that are there; `PluginError` if one is none.

    `zoo_core.registry.plugins.load_without(())` then loads them.
    """
    known = [str(path) for path in _named()]
    for path in paths:
        where = path.resolve()
        if os.pathsep in str(where):
            raise PluginError(f"{where}: a path with {os.pathsep!r} in it cannot be named as a plugin; move it.")
        _check(_distribution(where))
        if str(where) not in known:
            known.append(str(where))
    os.environ[VARIABLE] = os.pathsep.join(known)


def make_findable() -> None:
    """Let this process find and import the plugins of $ZOO_PLUGINS; `PluginError` if one is none."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
    for path in _named():
        _distribution(path)
        for folder in _import_from(path):
            if str(folder) not in sys.path:
                sys.path.append(str(folder))  # last, so that nothing there hides a library


def _named() -> list[Path]:
    return [Path(path) for path in os.environ.get(VARIABLE, "").split(os.pathsep) if path]


def _distribution(path: Path) -> Uninstalled:
    """Describe a file, or a folder with a pyproject.toml; `PluginError` if it is neither."""
    if path.is_dir():
        return _project(path)
    if path.suffix != ".py" or not path.is_file():
        what = "it is no Python file" if path.is_file() else "there is no such file or folder"
        raise PluginError(f"{path}: {what}. A plugin is a .py file, or the folder of its pyproject.toml.")
    if not path.stem.isidentifier():
        raise PluginError(f"{path}: {path.stem!r} cannot be imported; rename the file to letters, digits and _.")
    return Uninstalled(path, path.name, "0", {"zoo": {path.stem: path.stem}})


def _project(folder: Path) -> Uninstalled:
    file = folder / "pyproject.toml"
    try:
        written = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PluginError(f"{folder}: there is no pyproject.toml. Name the folder that holds it, or a file.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PluginError(f"{file}: it cannot be read: {error}") from None
    project = _typed(written, "project", {}, file)
    groups = {
        name: {entry: _typed(entries, entry, "", file) for entry in entries}
        for name, entries in _tables(project, file).items()
        if name.startswith("zoo")
    }
    if not any(groups.values()):
        raise PluginError(f'{file}: there is no entry point. Write [project.entry-points.zoo] and NAME = "MODULE".')
    for name, value in [pair for entries in groups.values() for pair in entries.items()]:
        if not ENTRY.fullmatch(name) or not EntryPoint.pattern.match(value):
            raise PluginError(
                f'{file}: the entry point {name!r} = {value!r} names no module; write NAME = "PACKAGE.MODULE".'
            )
    named, version = _typed(project, "name", folder.name, file), _typed(project, "version", "0", file)
    return Uninstalled(folder, named, version, groups)


def _tables(project: Mapping[str, Any], file: Path) -> dict[str, Any]:
    groups = _typed(project, "entry-points", {}, file)
    return {name: _typed(groups, name, {}, file) for name in groups}


def _typed(table: Mapping[str, Any], key: str, usual: T, file: Path) -> T:
    """Return what a table holds, or what is usual; `PluginError` if it is of another type than that."""
    found = table.get(key, usual)
    if not isinstance(found, type(usual)):
        kind = "a table" if isinstance(usual, dict) else "a text"
        raise PluginError(f"{file}: {key} = {found!r} must be {kind}.")
    return found


def _import_from(path: Path) -> list[Path]:
    """Return where Python is to look for the modules of a plugin: beside the file, or in the project or its src/."""
    return [folder for folder in (path, path / "src") if folder.is_dir()] if path.is_dir() else [path.parent]


def _check(found: Uninstalled) -> None:
    """Raise `PluginError` if another module would be imported in place of the plugin's."""
    folders = _import_from(found.path)
    for entry in found.entry_points:
        root = entry.module.partition(".")[0]
        here = [folder for folder in folders if (folder / root).is_dir() or (folder / f"{root}.py").is_file()]
        if not here:
            raise PluginError(f"{found.path}: the module {root!r} of its entry point is not in {folders[0]}.")
        other = find_spec(root)
        if other is not None and other.origin and not Path(other.origin).resolve().is_relative_to(here[0].resolve()):
            raise PluginError(
                f"{found.path}: its module {root!r} would hide, or be hidden by, {other.origin}; rename it, or "
                "pip uninstall the other."
            )
