"""python tests/oldest.py: print the oldest versions that our pyproject files allow, as constraints for pip."""

import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
FOLDERS = [".", "harness", "leaderboard", "rlhf-zoo", "plugins/*", "examples/*"]
AS_PINNED = ("torch",)
"""Taken from constraints.txt, not from its bound: older builds for a CPU alone are not where pip looks."""
TIED = ("anyio", "dill", "fsspec", "multiprocess", "numpy-typing-compat", "pydantic-core", "typing-inspection")
"""No dependencies of ours, and pinned to versions that our oldest dependencies refuse: pip finds what they accept."""


def requirements() -> Iterator[tuple[str, Requirement]]:
    """Yield every dependency on what is not ours, those of extras and of builds, too, with the file that names it."""
    for path in sorted(chain(*(ROOT.glob(f"{folder}/pyproject.toml") for folder in FOLDERS))):
        file = tomllib.loads(path.read_text())
        project = file["project"]
        extras = project.get("optional-dependencies", {}).values()
        for text in chain(file["build-system"]["requires"], project.get("dependencies", []), *extras):
            requirement = Requirement(text)
            if not requirement.name.startswith(("zoo-", "rlhf-zoo")):
                yield str(path.relative_to(ROOT)), requirement


def bound_of(requirement: Requirement) -> Version | None:
    """Return the oldest version that is allowed, or None if any is."""
    bounds = [Version(one.version) for one in requirement.specifier if one.operator == ">="]
    return max(bounds, default=None)


def pins() -> dict[str, Version]:
    """Return the versions of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = [Requirement(line) for line in lines if not line.startswith("#")]
    return {canonicalize_name(pin.name): Version(str(pin.specifier).removeprefix("==")) for pin in pinned}


def main() -> None:
    """Print a line for each package: what we depend on at its bound, all else as it is pinned."""
    versions = {name: version for name, version in pins().items() if name not in TIED}
    for _, requirement in requirements():
        name = canonicalize_name(requirement.name)
        if name not in AS_PINNED:
            versions[name] = bound_of(requirement)
    for name, version in sorted(versions.items()):
        print(f"{name}=={version}")


if __name__ == "__main__":
    main()
