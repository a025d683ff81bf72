"""What a process that trains must not see: gold, wherever its code or weights lie, and the file of all prompts."""

import sys
from pathlib import Path

from zoo_core.registry.sealing import sealed_packages
from zoo_harness.payloads import Training


def hidden_packages(training: Training) -> frozenset[str]:
    """Return the packages that hold gold and nothing that a training needs.

    They are those of plugins of the group `zoo.gold`, and the one that the spec names as `module:function`, unless the
    training's reward or judge is of the same package.
    """
    spec = training.spec
    gold, *needed = (_package(ref) for ref in (spec.gold, training.reward, spec.reward, spec.judge))
    return sealed_packages() | ({gold} if gold and gold not in needed else set())


def hidden_paths(training: Training) -> list[Path]:
    """Return the files and folders that a training must not open while it makes a step."""
    spec, packages = training.spec, hidden_packages(training)
    folders = [Path(folder or ".") for folder in sys.path]
    code = [folder / name for folder in folders for package in packages for name in (package, f"{package}.py")]
    shown = (training.reward, spec.reward, spec.judge, spec.base, spec.demonstrations, spec.preferences)
    named = [Path(ref) for ref in (spec.gold, spec.prompts) if ref and ref not in shown]
    return [path for path in (*code, *named) if path.exists()]


def _package(ref: str | None) -> str | None:
    module, colon, _ = (ref or "").partition(":")
    return module.partition(".")[0] if colon else None
