"""Writing the winner of a search into a plugin's source: defaults, where they come from, and the log beside them."""

import ast
import inspect
from collections.abc import Mapping
from pathlib import Path

from zoo_core.errors import StorageError
from zoo_core.records import Algorithm
from zoo_core.storage.atomic import write_json, write_text
from zoo_harness.job import read_json
from zoo_harness.tuning.log import Search

LOG = "tuning.json"
"""The log of a plugin's searches, by algorithm, beside its pyproject.toml."""
DEFAULTS = "DEFAULTS"
"""The class variable that says where defaults come from."""


def place_of(algorithm: Algorithm, *, by_loss: bool) -> tuple[str, Path, Path]:
    """Return the name of the configuration class, its module, and the folder of its pyproject.toml.

    Raises `StorageError` if the plugin is not installed from its source, or for a recipe, which is chosen by loss.
    """
    if by_loss:
        raise StorageError(
            f"{algorithm.name}: a recipe stands in the plugin's record, as `stage`; write it there by hand."
        )
    kind = algorithm.load_config()
    source = Path(inspect.getfile(kind))
    folder = next((parent for parent in source.parents if (parent / "pyproject.toml").is_file()), None)
    if folder is None:
        raise StorageError(
            f"{source}: {algorithm.name} is not installed from its source (pip install --editable); copy the "
            "settings by hand."
        )
    return kind.__name__, source, folder


def write_into_plugin(search: Search) -> list[Path]:
    """Write the winner into the configuration class, and the log; return the files.

    Raises `StorageError` if there is no place for it, or the class does not set what is written.
    """
    kind, source, folder = place_of(search.algorithm, by_loss=search.by == "loss")
    beat, points = search.beat_sft(), len(search.points) - 1
    values = {**search.settings(search.winner()), DEFAULTS: f'Defaults("tuned", points={points}, beat_sft={beat})'}
    write_text(source, with_defaults(source, kind, values))
    write_json(folder / LOG, {**(read_json(folder / LOG) or {}), search.algorithm.name: search.to_json()})
    return [source, folder / LOG]


def with_defaults(source: Path, name: str, values: Mapping[str, object]) -> str:
    """Return the text of a module in which the class `name` has these values for its fields."""
    text = source.read_text(encoding="utf-8")
    kind = next(node for node in ast.parse(text).body if isinstance(node, ast.ClassDef) and node.name == name)
    fields = {
        node.target.id: node
        for node in kind.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    if missing := sorted(set(values) - set(fields)):
        raise StorageError(
            f"{source}: the class {name} itself does not set {', '.join(missing)} (a class that it inherits from may); "
            "write them into it by hand."
        )
    lines = text.encode().splitlines(keepends=True)  # columns of the parser count bytes
    for field in sorted(values, key=lambda field: fields[field].lineno, reverse=True):
        old = fields[field].value
        if old is None:
            raise StorageError(f"{source}: {name}.{field} has no default to be replaced.")
        new = str(values[field]) if field == DEFAULTS else repr(values[field])
        first, last = old.lineno - 1, (old.end_lineno or old.lineno) - 1
        lines[first : last + 1] = [lines[first][: old.col_offset] + new.encode() + lines[last][old.end_col_offset :]]
    return b"".join(lines).decode()
