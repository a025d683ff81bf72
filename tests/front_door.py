"""python tests/front_door.py > tests/front_door.txt: print the signatures that plugins may rely on, one a line.

They are read from the source, so that the text does not depend on the version of Python or of a library.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FROZEN = Path(__file__).with_suffix(".txt")
RENEW = "python tests/front_door.py > tests/front_door.txt"


def live() -> list[str]:
    """Return the signatures of all modules that lie flat in zoo_core, sorted by module."""
    files = sorted(file for file in (ROOT / "zoo_core").glob("*.py") if file.name != "__init__.py")
    return [line for file in files for line in signatures(f"zoo_core.{file.stem}", file.read_text(encoding="utf-8"))]


def signatures(module: str, source: str) -> list[str]:
    """Return the public names that a module defines (not those that it imports), each with its types and defaults."""
    blocks = [lines for node in ast.parse(source).body if (lines := list(_lines_of(module, node)))]
    return [line for lines in sorted(blocks, key=lambda lines: lines[0].removeprefix("class ")) for line in lines]


def _lines_of(owner: str, node: ast.stmt) -> Iterator[str]:
    """Yield the lines of one statement: of a class its fields in their order, which is that of its arguments, too."""
    if isinstance(node, ast.FunctionDef) and _is_public(node.name):
        if any(ast.unparse(one).endswith("property") for one in node.decorator_list):
            yield f"{owner}.{node.name}{_annotation(node.returns)}{_decorators(node)}"
        else:
            returned = f" -> {_text(node.returns)}" if node.returns else ""
            yield f"{owner}.{node.name}({_arguments(node.args)}){returned}{_decorators(node)}"
    elif isinstance(node, ast.ClassDef) and _is_public(node.name):
        bases = ", ".join(ast.unparse(base) for base in [*node.bases, *node.keywords])
        yield f"class {owner}.{node.name}" + (f"({bases})" if bases else "") + _decorators(node)
        fields = [one for one in node.body if isinstance(one, ast.AnnAssign)]
        given = [one for method in node.body if _is_constructor(method) for one in _given_by(method)]
        for one in [*fields, *given]:
            yield from _lines_of(f"{owner}.{node.name}", one)
        others = (list(_lines_of(f"{owner}.{node.name}", one)) for one in node.body if one not in fields)
        yield from (line for lines in sorted(others) for line in lines)
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and _is_public(node.target.id):
        yield f"{owner}.{node.target.id}{_annotation(node.annotation)}{_default(node.value)}"
    elif isinstance(node, ast.Assign):
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        # The type of a constant; of anything else, such as an alias of a type, what it is.
        value = f": {type(node.value.value).__name__}" if isinstance(node.value, ast.Constant) else _default(node.value)
        yield from (f"{owner}.{name}{value}" for name in names if _is_public(name))


def _is_constructor(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == "__init__"


def _given_by(constructor: ast.stmt) -> Iterator[ast.AnnAssign]:
    """Yield the attributes that a constructor gives to its object, as if they were declared in the class."""
    for node in ast.walk(constructor):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        annotation = getattr(node, "annotation", None) or ast.Name("unannotated")
        for target in targets:
            if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
                yield ast.AnnAssign(ast.Name(target.attr), annotation, None, simple=1)


def _arguments(given: ast.arguments) -> str:
    """Return the parameters of a function with their types and defaults."""
    named = [*given.posonlyargs, *given.args]
    defaults: list[ast.expr | None] = [*[None] * (len(named) - len(given.defaults)), *given.defaults]
    parts = [_argument(one, default) for one, default in zip(named, defaults, strict=True)]
    if given.posonlyargs:
        parts.insert(len(given.posonlyargs), "/")
    if given.vararg or given.kwonlyargs:
        parts.append("*" + (_argument(given.vararg) if given.vararg else ""))
    parts += [_argument(one, default) for one, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    return ", ".join([*parts, *([f"**{_argument(given.kwarg)}"] if given.kwarg else [])])


def _argument(one: ast.arg, default: ast.expr | None = None) -> str:
    return f"{one.arg}{_annotation(one.annotation)}{_default(default)}"


def _annotation(node: ast.expr | None) -> str:
    return f": {_text(node)}" if node else ""


def _default(node: ast.expr | None) -> str:
    return f" = {ast.unparse(node)}" if node else ""


def _text(node: ast.expr) -> str:
    """Return a type as it is written, without the quotes of one that is defined further down."""
    return str(node.value) if isinstance(node, ast.Constant) else ast.unparse(node)


def _decorators(node: ast.FunctionDef | ast.ClassDef) -> str:
    return "".join(f" @{ast.unparse(one)}" for one in node.decorator_list)


def _is_public(name: str) -> bool:
    return not name.startswith("_") or (name.startswith("__") and name.endswith("__"))


if __name__ == "__main__":
    sys.stdout.write("".join(f"{line}\n" for line in live()))
