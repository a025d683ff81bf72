"""The first look at an input: rows, and the files that a spec names, before anything heavy is imported.

It takes a second where opening everything takes twenty. What needs a model, a tokenizer or the network is looked at by
the probe (`zoo_harness.jobs.probe`).
"""

import ast
from pathlib import Path

from zoo_core.errors import SpecError, did_you_mean
from zoo_core.registry.references import is_gold, load_rows
from zoo_core.rows import Kind
from zoo_harness import model_folder
from zoo_harness.faults import Faults
from zoo_harness.planning.pipeline import Pipeline
from zoo_harness.spec.schema import FROM_PAIRS, LabelPairs, Spec

AT_ONCE = 50 * 2**20
"""Bytes of a data file that is read here; a larger one is read by the probe alone."""


def check_bench(spec: Spec) -> None:
    """Raise an error with all that is wrong with the rows of a bench, its models, data, rewards and tasks."""
    faults = Faults()
    _check_references(spec, faults)
    with faults.noted():
        Pipeline.of(spec)
    kinds: list[Kind] = ["demonstrations", "preferences", "prompts"]
    for kind in kinds:
        with faults.noted():
            _check_data(getattr(spec, kind), kind)
    faults.tell()


def check_references(spec: Spec) -> None:
    """The same of models, rewards and tasks, for commands that train nothing."""
    faults = Faults()
    _check_references(spec, faults)
    faults.tell()


def _check_references(spec: Spec, faults: Faults) -> None:
    with faults.noted():
        if spec.base.startswith((".", "/", "~")) or Path(spec.base).exists():
            model_folder.check(Path(spec.base).expanduser())
    rewards = {f"reward of {entry.row}": entry.reward for entry in spec.algorithms}
    rewards |= {"reward": spec.reward, "gold": spec.gold, "judge": spec.judge}
    if isinstance(spec.preferences, LabelPairs):
        rewards["preferences.annotator"] = spec.preferences.annotator
    for key, ref in rewards.items():
        if ref and ref not in (FROM_PAIRS, spec.base):
            with faults.noted(key):
                _check_reward(ref, Path(spec.folder or "."))
                if key.startswith("reward") and is_gold(ref):
                    raise SpecError(
                        f"{ref!r} is gold, which no algorithm may learn from: a process that trains cannot load it. "
                        "Give `reward: preferences`, a scorer or module:function, and keep this one under `gold:`."
                    )
    for task in spec.tasks or []:
        with faults.noted():
            if task.endswith((".yaml", ".yml")) and not Path(task).is_file():
                raise SpecError(f"tasks: there is no task file {task} (looked in {Path.cwd()}).")


def _check_reward(ref: str, folder: Path) -> None:
    """A folder that must be there, or a function in a file beside the spec."""
    module, colon, name = ref.partition(":")
    if not colon:
        if ref.startswith((".", "/", "~")):
            model_folder.check(Path(ref).expanduser())
        return
    file = folder.joinpath(*module.split(".")).with_suffix(".py")
    if not file.is_file() or not name.isidentifier():
        return  # a plugin's reference, or a module that is installed
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError) as error:
        where = f":{error.lineno}" if isinstance(error, SyntaxError) else ""
        raise SpecError(f"{file}{where}: the file is no Python: {error}") from None
    bound = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    bound += [node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    star = any(isinstance(node, ast.ImportFrom) for node in tree.body)  # it may come from elsewhere
    if name not in bound and not star:
        raise SpecError(f"{file}: there is no function {name!r}. {did_you_mean(name, bound)}")


def _check_data(ref: object, kind: Kind) -> None:
    """Read a file of rows; folders, plugins and the hub are asked later."""
    if not isinstance(ref, str) or not ref.startswith((".", "/", "~")):
        return
    path = Path(ref.partition("#")[0]).expanduser()
    if path.is_dir() or (path.is_file() and path.stat().st_size > AT_ONCE) or path.suffix == ".parquet":
        return
    load_rows(ref, kind, 0)
