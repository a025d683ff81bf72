"""Every distribution has the same shape, so that knowing one is knowing all; dependencies point one way."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from jaxtyping import TypeCheckError
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from zoo_core.functional import masked_mean

ROOT = Path(__file__).parents[1]
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))
DISTRIBUTIONS = [ROOT, *PLUGINS, ROOT / "harness", ROOT / "leaderboard"]
LINES = {"plugin": 40, "config": 110, "loss": 200, "selection": 180, "train": 140}
"""The most lines a module of an algorithm may have; raising one is a visible diff."""
FORMULAS = ("loss", "selection")
"""Of these an algorithm has one: a loss of its own, or how it selects rows for that of another."""
HEADINGS = ["Paper", "Equations", "Departures", "Settings", "Metrics", "Result"]
MOST_BYTES = 8 * 1024**2


def name_of(folder: Path) -> str:
    return "core" if folder == ROOT else folder.name


def package_of(folder: Path) -> Path:
    return folder / f"zoo_{name_of(folder).replace('-', '_')}"


def project_of(folder: Path) -> dict:
    return tomllib.loads((folder / "pyproject.toml").read_text())["project"]


def requirements_of(folder: Path) -> list[Requirement]:
    return [Requirement(text) for text in project_of(folder)["dependencies"]]


def extras_of(folder: Path) -> dict[str, list[Requirement]]:
    extras = project_of(folder).get("optional-dependencies", {})
    return {name: [Requirement(text) for text in texts] for name, texts in extras.items()}


def declared_distributions(folder: Path) -> list[Path]:
    """Return the distributions of this repository among the dependencies of one of them."""
    names = {canonicalize_name(requirement.name) for requirement in requirements_of(folder)}
    return [path for path in DISTRIBUTIONS if f"zoo-{name_of(path)}" in names]


def sources_of(folder: Path) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(package_of(folder).rglob("*.py")):
        yield path.relative_to(ROOT), ast.parse(path.read_text())


def imports_of(tree: ast.Module) -> set[str]:
    """Return the top-level packages that a module imports anywhere in it, inside functions as well."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


def modules_of(folder: Path) -> dict[str, set[str]]:
    """Return the modules of an algorithm's distribution by what they are; records name configs and loops."""
    records = import_module(f"{package_of(folder).name}.plugin").zoo_algorithms()
    named = {what: {getattr(record, what).partition(":")[0] for record in records} for what in ("config", "train")}
    lacking = {what for what in FORMULAS if not (package_of(folder) / f"{what}.py").exists()}
    return {what: {f"{package_of(folder).name}.{what}"} for what in LINES.keys() - lacking} | named


def provides(hook: str, folder: Path) -> bool:
    plugin = package_of(folder) / "plugin.py"
    return plugin.exists() and f"def {hook}(" in plugin.read_text()


def undocumented_fields(tree: ast.Module) -> list[str]:
    """Return the fields of a module's classes that no docstring follows; a `ClassVar` is no field."""
    return [
        f"{owner.name}.{field.target.id}"
        for owner in ast.walk(tree)
        if isinstance(owner, ast.ClassDef)
        for field, text in pairwise([*owner.body, None])
        if isinstance(field, ast.AnnAssign)
        and not ast.unparse(field.annotation).startswith("ClassVar")
        and not (isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and text.value.value)
    ]


ALGORITHMS = [folder for folder in PLUGINS if provides("zoo_algorithms", folder)]

each_distribution = pytest.mark.parametrize("folder", DISTRIBUTIONS, ids=name_of)
each_plugin = pytest.mark.parametrize("folder", PLUGINS, ids=name_of)
each_algorithm = pytest.mark.parametrize("folder", ALGORITHMS, ids=name_of)


@each_distribution
def test_a_folder_is_a_distribution_is_a_package(folder):
    project = project_of(folder)
    assert project["name"] == f"zoo-{name_of(folder)}"
    assert (project["requires-python"], project["license"]) == (">=3.11", "Apache-2.0")
    assert (package_of(folder) / "__init__.py").is_file()


@each_distribution
def test_a_changelog_tells_of_the_current_version(folder):
    changelog = (package_of(folder) if folder == ROOT else folder) / "CHANGELOG.md"
    version = re.escape(project_of(folder)["version"])
    assert re.search(rf"^## \[?({version}|unreleased)", changelog.read_text(), re.MULTILINE | re.IGNORECASE)


@each_plugin
def test_a_plugin_registers_one_module_under_its_own_name_and_others_under_names_that_begin_with_it(folder):
    entries, package = project_of(folder)["entry-points"], package_of(folder)
    ((group, mine),) = entries.items()
    assert group in ("zoo", "zoo.gold")
    assert mine.pop(folder.name) == f"{package.name}.plugin"
    modules = {
        f"{package.name}.{what}": f"{folder.name}-{what}" for what in (path.stem for path in package.glob("*.py"))
    }
    assert all(modules.get(module) == name for name, module in mine.items())
    assert (package / "plugin.py").is_file()


@each_plugin
def test_a_plugin_has_a_readme_and_tests(folder):
    assert (folder / "README.md").read_text().startswith("# ")
    assert list(folder.glob("tests/test_*.py"))


@each_algorithm
def test_an_algorithm_is_four_short_modules(folder):
    assert len(modules_of(folder)) == 4
    for what, modules in modules_of(folder).items():
        for module in modules:
            lines = len(Path(find_spec(module).origin).read_text().splitlines())
            assert lines <= LINES[what], (
                f"{module} has {lines} lines, {LINES[what]} allowed; split it or argue for more"
            )


@each_algorithm
def test_the_readme_of_an_algorithm_answers_the_same_questions_in_the_same_order(folder):
    found = re.findall(r"^## (.+)$", (folder / "README.md").read_text(), re.MULTILINE)
    assert [heading for heading in found if heading in HEADINGS] == HEADINGS


@each_algorithm
def test_every_setting_of_an_algorithm_is_documented(folder):
    for module in modules_of(folder)["config"]:
        assert undocumented_fields(ast.parse(Path(find_spec(module).origin).read_text())) == []


@each_algorithm
def test_pyprojects_of_algorithms_differ_in_names_and_dependencies_only(folder):
    def shape(path: Path) -> dict:
        data = tomllib.loads((path / "pyproject.toml").read_text())
        project = data.pop("project")
        data["tool"]["hatch"]["build"]["targets"]["wheel"].pop("packages")
        return data | {"keys": list(project), "same": [project["requires-python"], project["license"]]}

    assert shape(folder) == shape(ALGORITHMS[0])


@each_distribution
def test_imports_point_one_way(folder):
    """Core <- leaderboard <- harness <- executor; core <- plugin <- a plugin that names it in its dependencies."""
    allowed = {package_of(path).name for path in [folder, *declared_distributions(folder)]}
    for path, tree in sources_of(folder):
        assert {name for name in imports_of(tree) if name.startswith("zoo_")} <= allowed, path


@each_distribution
def test_every_import_is_a_dependency_of_its_own_or_of_what_it_builds_on(folder):
    owners = [folder, *declared_distributions(folder)]
    always = {canonicalize_name(needed.name) for owner in owners for needed in requirements_of(owner)}
    distributions = packages_distributions()
    for path, tree in sources_of(folder):  # x/testing/ is for those who installed the extra `testing`
        extra = {canonicalize_name(needed.name) for needed in extras_of(folder).get(path.parent.name, [])}
        for name in sorted(imports_of(tree) - sys.stdlib_module_names):
            if not name.startswith("zoo_"):
                known = set(map(canonicalize_name, distributions[name]))
                assert known & (always | extra), f"{path} imports {name}"


@each_distribution
def test_dependencies_point_one_way(folder):
    allowed = {"core": set(), "leaderboard": {"core"}, "harness": {"core", "leaderboard"}}
    others = {"core"} | {path.name for path in PLUGINS}
    if provides("zoo_executors", folder):  # what runs the harness's jobs
        others |= {"harness"}
    assert {name_of(path) for path in declared_distributions(folder)} <= allowed.get(name_of(folder), others)


@each_algorithm
def test_an_algorithm_depends_on_the_one_it_starts_from(folder):
    declared = {name_of(path) for path in declared_distributions(folder)}
    for algorithm in import_module(f"{package_of(folder).name}.plugin").zoo_algorithms():
        assert algorithm.starts_from in declared | {"base"}


@each_algorithm
def test_an_algorithm_declares_no_plugin_that_it_neither_imports_nor_stands_on(folder):
    """Else whoever installs one algorithm gets another, and a row of it on every default bench."""
    imported = {name for _, tree in sources_of(folder) for name in imports_of(tree)}
    records = import_module(f"{package_of(folder).name}.plugin").zoo_algorithms()
    stands_on = {record.starts_from for record in records}
    if any("reward" in record.learns_from for record in records):
        stands_on |= {"reward-model"}  # `reward: preferences`, the default
    for other in declared_distributions(folder):
        assert package_of(other).name in imported or name_of(other) in stands_on | {"core"}, name_of(other)


@each_distribution
def test_a_package_says_that_it_is_typed(folder):
    assert (package_of(folder) / "py.typed").exists()


@pytest.mark.parametrize("folder", [ROOT, ROOT / "harness", ROOT / "leaderboard"], ids=name_of)
def test_only_plugins_know_the_name_of_an_algorithm(folder):
    algorithms = {path.name for path in ALGORITHMS}
    for path, tree in sources_of(folder):
        strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        assert not strings & algorithms, path


def test_shapes_are_enforced_while_testing_wherever_they_are_written():
    with_shapes = [
        ".".join((ROOT / path).relative_to(package_of(folder).parent).with_suffix("").parts)
        for folder in DISTRIBUTIONS
        for path, tree in sources_of(folder)
        if any(isinstance(node, ast.ImportFrom) and node.module == "jaxtyping" for node in ast.walk(tree))
    ]
    assert len(with_shapes) > 40
    loaders = {name: type(find_spec(name).loader).__module__ for name in with_shapes}
    assert [name for name, loader in loaders.items() if loader.split(".")[0] != "jaxtyping"] == []


def test_a_wrong_shape_is_refused_even_where_it_would_broadcast():
    with pytest.raises(TypeCheckError):
        masked_mean(torch.ones(2, 3), torch.ones(2, 1, dtype=torch.bool))


def test_no_file_is_too_big_to_review_or_to_clone():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: nothing says which files belong to the repository")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert [path for path in files if path.is_file() and path.stat().st_size > MOST_BYTES] == []
