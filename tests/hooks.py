"""Writes docs/hooks: a page for each hook, from its docstring, the types that it handles, and its example.

    python tests/hooks.py

Sources are read and not imported. tests/test_hooks.py fails when a page is not what this writes.
"""

import ast
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "hooks"
EXAMPLES = ROOT / "examples" / "hooks"
HOOKSPECS = ROOT / "zoo_core" / "hookspecs.py"

LISTING = "Once in every process, when the plugin is loaded."
ASKED = (
    "When a user wrote a reference. Plugins are asked in turn, the core last; the first answer that is not None counts."
)
WATCHING = "During a training, on rank 0. What it returns is ignored; what it raises is noted in the result."
EVENTS = {
    "zoo_algorithms": LISTING,
    "zoo_tasks": LISTING,
    "zoo_commands": LISTING,
    "zoo_executors": LISTING,
    "zoo_trackers": LISTING,
    "zoo_load_model": ASKED,
    "zoo_load_dataset": ASKED,
    "zoo_rollout_engine": ASKED,
    "zoo_reward": ASKED,
    "zoo_judge": ASKED,
    "zoo_run_started": WATCHING,
    "zoo_run_updated": WATCHING,
    "zoo_run_finished": WATCHING,
}
TYPES = {
    "zoo_algorithms": ["records.Algorithm", "run.Run"],
    "zoo_tasks": ["records.Task"],
    "zoo_commands": ["records.Command"],
    "zoo_executors": ["records.Executor"],
    "zoo_trackers": ["records.Tracker"],
    "zoo_rollout_engine": ["rollout.RolloutEngine", "rollout.Prompts"],
    "zoo_reward": ["reward.Sample"],
    "zoo_judge": ["judge.Judge", "judge.Written"],
    "zoo_run_started": ["records.Training"],
    "zoo_run_updated": ["records.Training", "records.Progress"],
    "zoo_run_finished": ["records.Training", "records.Finished"],
}
"""By hook: the types whose fields and methods its page shows."""


def hooks() -> dict[str, ast.FunctionDef]:
    """Return the specifications, in their order."""
    body = ast.parse(HOOKSPECS.read_text()).body
    return {one.name: one for one in body if isinstance(one, ast.FunctionDef) and one.name.startswith("zoo_")}


def example_of(name: str) -> Path:
    """Return the example of a hook; a module called as the hook could hide a plugin's."""
    return EXAMPLES / f"{name.replace('zoo', 'my', 1)}.py"


def page_of(spec: ast.FunctionDef) -> str:
    """Return the page of a hook."""
    example = example_of(spec.name)
    returns = ast.unparse(spec.returns).strip("'\"") if spec.returns else "None"
    given = ", ".join(
        f"{one.arg}: {ast.unparse(one.annotation)}" if one.annotation else one.arg for one in spec.args.args
    )
    parts = [
        f"# {spec.name}",
        "<!-- written by tests/hooks.py: change the docstrings of zoo_core, or the example -->",
        f"```python\n@hookimpl\ndef {spec.name}({given}) -> {returns}: ...\n```",
        f"**Called:** {EVENTS[spec.name]}",
        ast.get_docstring(spec) or "",
        *(text for name in TYPES.get(spec.name, []) for text in type_of(name)),
        "## Example",
        f"A whole plugin, [{example.relative_to(ROOT)}](../../{example.relative_to(ROOT)}), which a test runs. "
        f"`zoo bench --plugin {example.name} ...` uses it.",
        f"```python\n{example.read_text()}```",
    ]
    return "\n\n".join(parts) + "\n"


def type_of(name: str) -> Iterator[str]:
    """Describe a class of zoo_core: what it is, its fields and its methods."""
    module, _, kind = name.partition(".")
    tree = ast.parse((ROOT / "zoo_core" / f"{module}.py").read_text())
    (found,) = (one for one in tree.body if isinstance(one, ast.ClassDef) and one.name == kind)
    yield f"## {kind}"
    yield f"`zoo_core.{module}.{kind}`. {ast.get_docstring(found)}"
    rows = list(fields_of(found))
    if rows:
        yield "\n".join(["| field | type | meaning |", "|---|---|---|", *rows])
    methods = list(methods_of(found))
    if methods:
        yield "\n".join(["| method | meaning |", "|---|---|", *methods])


def fields_of(kind: ast.ClassDef) -> Iterator[str]:
    """Yield a line for each field that users may read: name, type, default and docstring."""
    for one, text in pairwise([*kind.body, ast.Pass()]):
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and not one.target.id.startswith("_"):
            documented = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
            said = text.value.value if documented else one.target.id
            default = f", default `{ast.unparse(one.value)}`" if is_plain(one.value) else ""
            yield f"| `{one.target.id}` | `{cell(ast.unparse(one.annotation))}`{default} | {cell(said)} |"


def methods_of(kind: ast.ClassDef) -> Iterator[str]:
    """Yield a line for each method that users may call, with its docstring's first sentence."""
    for one in kind.body:
        public = isinstance(one, ast.FunctionDef) and (not one.name.startswith("_") or one.name == "__call__")
        if public and (said := ast.get_docstring(one)):
            yield f"| `{one.name}` | {cell(said.partition(chr(10) * 2)[0])} |"


def is_plain(value: ast.expr | None) -> bool:
    """Whether a default can be shown as it is written."""
    return isinstance(value, ast.Constant | ast.Name | ast.Tuple)


def cell(text: object) -> str:
    """Return text that fits in a cell of a table."""
    return " ".join(str(text).split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGES.mkdir(exist_ok=True)
    for spec in hooks().values():
        (PAGES / f"{spec.name}.md").write_text(page_of(spec))
