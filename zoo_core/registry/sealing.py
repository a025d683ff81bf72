"""Keeping gold from training: a process that trains has no plugin of the group `zoo.gold` and cannot import one."""

import sys
from collections.abc import Collection
from importlib.abc import MetaPathFinder
from importlib.metadata import entry_points

from zoo_core.registry.plugins import GOLD_GROUP, load_without


def load_for_training(sealed: Collection[str]) -> None:
    """Load the installed plugins of this process anew, without those of the group `zoo.gold`.

    From here on, none of the `sealed` packages can be imported in this process.
    """
    gold = entry_points(group=GOLD_GROUP)
    for name in [name for name in sys.modules if name.partition(".")[0] in sealed]:
        del sys.modules[name]
    sys.meta_path.insert(0, _Sealed(sealed))
    load_without([entry.name for entry in gold])


def sealed_packages() -> frozenset[str]:
    """Return the packages of the installed plugins of the group `zoo.gold`. Entry points that name none bring none."""
    named = [entry for entry in entry_points(group=GOLD_GROUP) if entry.pattern.match(entry.value)]
    return frozenset(entry.module.partition(".")[0] for entry in named)


class _Sealed(MetaPathFinder):
    """Refuses to import packages."""

    def __init__(self, packages: Collection[str]) -> None:
        self.packages = packages

    def find_spec(self, name: str, *_: object) -> None:
        if name.partition(".")[0] in self.packages:
            raise ModuleNotFoundError(f"{name} holds gold, and a process that trains cannot import it", name=name)
