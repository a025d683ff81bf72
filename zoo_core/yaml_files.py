"""Reading YAML that a person wrote: a key that is there twice is an error, not the last of the two."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode

from zoo_core.errors import SpecError


class _Loader(yaml.SafeLoader):
    """The safe loader, which knows nothing but plain values, and refuses a mapping with two values for one key."""

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if key.tag != "tag:yaml.org,2002:merge" and lines.setdefault(str(key.value), line) != line:
                raise _Twice(str(key.value), lines[str(key.value)], line)
        return super().construct_mapping(node, deep)


class _Twice(Exception):
    pass


def read_yaml(file: Path) -> Any:
    """Return the value in a YAML file; `SpecError` names what is wrong with it, and the line."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise SpecError(f"{file}: there is no such file (looked in {Path.cwd()}).") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{file}: cannot be read: {error}") from None
    return parse_yaml(text, str(file))


def parse_yaml(text: str, where: str) -> Any:
    """Return the value that a text in YAML is; `SpecError` says `where` it is wrong."""
    try:
        return yaml.load(text, _Loader)  # it is a SafeLoader
    except _Twice as error:
        key, first, second = error.args
        raise SpecError(f"{where}: the key {key!r} is there twice, in lines {first} and {second}; keep one.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SpecError(f"{where}: this is not YAML: {error}") from None
