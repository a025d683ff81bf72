"""What our distributions say of the versions that they work with; `make oldest` tries the oldest of them."""

import importlib.util
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

spec = importlib.util.spec_from_file_location("oldest", Path(__file__).parent / "oldest.py")
oldest = importlib.util.module_from_spec(spec)
spec.loader.exec_module(oldest)

REQUIREMENTS = [(file, canonicalize_name(needed.name), needed) for file, needed in oldest.requirements()]


UNTRIED = {"vllm"}
"""Never installed here, so no version of it is one that the tests passed with: it names a torch of its own."""


def test_every_dependency_has_a_lower_bound():
    assert not [f"{file}: {needed}" for file, _, needed in REQUIREMENTS if oldest.bound_of(needed) is None]


def test_a_package_has_the_same_bound_wherever_it_is_named():
    bounds = {name: oldest.bound_of(needed) for _, name, needed in REQUIREMENTS}
    assert not [f"{file}: {needed}" for file, name, needed in REQUIREMENTS if oldest.bound_of(needed) != bounds[name]]


def test_every_dependency_is_pinned_to_a_version_that_satisfies_it():
    pins, tried = oldest.pins(), [one for one in REQUIREMENTS if one[1] not in UNTRIED]
    assert not [f"{file}: {needed}" for file, name, needed in tried if pins[name] not in needed.specifier]
    assert not pins.keys() & UNTRIED


def test_every_pyproject_file_is_read_with_its_extras_and_what_builds_it():
    tracked = subprocess.run(["git", "ls-files", "*pyproject.toml"], cwd=oldest.ROOT, capture_output=True, text=True)
    assert {file for file, _, _ in REQUIREMENTS} >= set(tracked.stdout.split())
    names = {(file, name) for file, name, _ in REQUIREMENTS}
    assert {("harness/pyproject.toml", "typer"), ("plugins/trackers/pyproject.toml", "wandb")} <= names


@pytest.mark.parametrize(
    ("text", "bound"),
    [("a>=1.2", "1.2"), ("a[x]>=0.4.12,<0.5", "0.4.12"), ("a<2,>=1", "1"), ("a", None), ("a<2", None), ("a>1", None)],
)
def test_a_bound_is_the_oldest_version_that_is_allowed(text, bound):
    assert oldest.bound_of(Requirement(text)) == (bound and Version(bound))


def test_what_we_depend_on_is_constrained_to_its_bound_and_all_else_to_its_pin(capsys):
    oldest.main()
    given = {one.name: str(one.specifier) for one in map(Requirement, capsys.readouterr().out.splitlines())}
    pins = {name: f"=={version}" for name, version in oldest.pins().items()}
    bounds = {name: f"=={oldest.bound_of(needed)}" for _, name, needed in REQUIREMENTS}
    wanted = pins | bounds | {"torch": pins["torch"]}
    assert given == {name: version for name, version in wanted.items() if name not in oldest.TIED}
