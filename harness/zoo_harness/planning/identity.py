"""Which code a result depends on: the modules that its job imports, followed through our own packages and plugins'.

A result is found again by a hash of what it depends on. A change of one algorithm must not have another trained again,
nor a change of a table; a change of what an algorithm computes with must. Imports say which is which: those written
anywhere in a module, inside functions as well, are followed. What is named as text (`module:attribute`) is not seen;
the whole package of a plugin that takes part counts for that reason. Comments, docstrings and layout change no result.
"""

import ast
import hashlib
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from zoo_core.errors import SpecError
from zoo_core.models.files import model_files
from zoo_core.records import Algorithm
from zoo_core.registry.plugins import plugins
from zoo_harness.spec.schema import Spec

OWN = ("zoo_core", "zoo_harness", "zoo_leaderboard")
EVERY_JOB = ("zoo_harness.jobs.worker", "zoo_core.registry.builtin")
"""What runs around the work of every job, and the core's own answers to the hooks."""


def saves_memory(spec: Spec) -> list[str]:
    """Name the keys that save memory. Those that are not given stay out of identities: older results stay known."""
    names = ("weights", "optimizer", "micro_batch", "gradient_checkpointing", "lora")
    return [name for name in names if getattr(spec, name) != Spec.model_fields[name].default]


def code_of_job(kind: str, algorithm: Algorithm | None = None, engine: str = "cached") -> str:
    """Hash the code that a job of this kind runs: its module, its algorithm's package, and all that these import."""
    return _code_of_job(kind, algorithm.name if algorithm else None, engine)


@cache
def _code_of_job(kind: str, algorithm: str | None, engine: str) -> str:
    roots = [*EVERY_JOB, f"zoo_harness.jobs.{kind}"]
    if algorithm is not None:
        roots += package_modules(root_of(plugins().owner("zoo_algorithms", algorithm).module))
    if engine != "cached":  # of a plugin, and it cannot be told which before it is asked
        for plugin in plugins().plugins:
            if plugin.status == "ok" and "zoo_rollout_engine" in plugin.hooks:
                roots += package_modules(root_of(plugin.module))
    digest = hashlib.sha256()
    for name, file in sorted(_reached(roots).items()):
        source = file.read_bytes()
        digest.update(name.encode() + (_statements(source) if file.suffix == ".py" else source))
    return digest.hexdigest()[:24]


@cache
def _statements(source: bytes) -> bytes:
    """Return what a module does: its syntax tree without the strings that stand alone, such as docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            node.body = [one for one in body if not _is_text(one)]  # type: ignore[attr-defined]
    return ast.dump(tree).encode()


def _is_text(statement: ast.stmt) -> bool:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def package_hash(package: str) -> str:
    """Hash of the Python and YAML files of a package, or of a module that stands alone."""
    digest = hashlib.sha256()
    for name, file in _files(package):
        digest.update(name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def package_modules(package: str) -> list[str]:
    """Return the names of all modules of a package, its YAML files among them."""
    return [name for name, _ in _files(package)]


def commit_of(module: str) -> str | None:
    """The commit that a module is checked out from, "+" behind it if files differ; None outside git."""
    found = find_spec(root_of(module))
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
        changed = subprocess.run(["git", "status", "--porcelain", "--untracked-files=no", "."], cwd=folder,
                                 capture_output=True, text=True, check=True)  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def files_named(settings: Mapping[str, object]) -> dict[str, str]:
    """Hash of each file that a setting names, or of the files of a model that it names: a constitution, a teacher.

    A user may change it between two benches.
    """
    named = {name: Path(value) for name, value in settings.items() if isinstance(value, str) and value}
    return {name: _bytes_of(path) for name, path in named.items() if _is_file_or_model(path)}


def _is_file_or_model(path: Path) -> bool:
    return path.is_file() or (path / "config.json").is_file()


def _bytes_of(path: Path) -> str:
    digest = hashlib.sha256()
    for file in model_files(path) if path.is_dir() else [path]:
        found = file.stat()
        digest.update(file.name.encode() + _sha256(file, found.st_size, found.st_mtime_ns))
    return digest.hexdigest()


@cache
def _sha256(file: Path, size: int, changed: int) -> bytes:
    """Hash a file; a teacher's gigabytes are read once, not for every seed and record, unless they change."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").digest()


def _files(package: str) -> list[tuple[str, Path]]:
    """Return name and path of each Python and YAML file of a package: `zoo_x.loss`, `zoo_x/words.yaml`."""
    found = find_spec(package)
    if found is None or not found.origin:
        raise SpecError(f"the package {package!r} of a plugin cannot be found; install the plugin again.")
    origin = Path(found.origin)
    if origin.name != "__init__.py":
        return [(package, origin)]
    files = [file for file in sorted(origin.parent.rglob("*")) if file.suffix in (".py", ".yaml")]
    return [(_name(package, file.relative_to(origin.parent)), file) for file in files]


def _name(package: str, inside: Path) -> str:
    if inside.suffix != ".py":
        return f"{package}/{inside.as_posix()}"
    parts = inside.with_suffix("").parts
    return ".".join([package, *(parts[:-1] if parts[-1] == "__init__" else parts)])


def _reached(roots: Iterable[str]) -> dict[str, Path]:
    """Return these modules and all that they import, near and far, of our packages and those of plugins."""
    known = {root_of(plugin.module) for plugin in plugins().plugins if plugin.status == "ok"} | set(OWN)
    files = {name: file for package in sorted(known) for name, file in _files(package)}
    reached: dict[str, Path] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name in files and name not in reached:
            reached[name] = files[name]
            if files[name].suffix == ".py":
                is_package = files[name].name == "__init__.py"
                package = name if is_package else name.rpartition(".")[0]
                waiting += [package, *_imported(files[name].read_bytes(), package)]
    return reached


@cache
def _imported(source: bytes, package: str) -> tuple[str, ...]:
    """Return the names that a module in a package imports, whether they are modules or what is in them."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*above, *filter(None, [node.module])])
            names += [origin, *(f"{origin}.{alias.name}" for alias in node.names)]
    return tuple(names)


def root_of(module: str) -> str:
    """Return the package of a module, or of what is named in one: `zoo_x` of `zoo_x.loss:dpo`."""
    return module.partition(":")[0].partition(".")[0]
