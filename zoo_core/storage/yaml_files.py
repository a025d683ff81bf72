"""Reading YAML that people write: a key that is there twice is an error."""

from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, SequenceNode

from zoo_core.errors import SpecError


def read_yaml(file: Path) -> Any:
    """Return the value in a YAML file; `SpecError` says what is wrong, and in which line."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise SpecError(f"{file}: there is no such file (looked in {Path.cwd()}).") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{file}: cannot be read: {error}") from None
    return parse_yaml(text, str(file))


def parse_yaml(text: str, where: str) -> Any:
    """Return the value of a text in YAML; `SpecError` says what is wrong in `where`."""
    try:
        refuse_keys_twice(text, where)
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SpecError(f"{where}: this is not YAML: {error}") from None


def refuse_keys_twice(text: str, where: str) -> None:
    """Raise `SpecError` if a mapping has two values for one key, whatever tags the text has."""
    waiting = [yaml.compose(text, yaml.SafeLoader)]
    seen: set[int] = set()  # an alias may make a node its own part
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        waiting += _parts(node, where)


def _parts(node: Node, where: str) -> list[Node]:
    if isinstance(node, SequenceNode):
        return list(node.value)
    if not isinstance(node, MappingNode):
        return []
    lines: dict[str, int] = {}
    for key, _ in node.value:
        line, name = key.start_mark.line + 1, str(key.value)
        if name in lines and name != "<<":
            raise SpecError(f"{where}: the key {name!r} is there twice, in lines {lines[name]} and {line}; keep one.")
        lines[name] = line
    return [part for pair in node.value for part in pair]
