"""`zoo plugins check`: the suite that every algorithm must pass, run on one that need not be installed."""

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal, cast

import pytest

from zoo_core.errors import SpecError
from zoo_core.records import Algorithm
from zoo_core.storage.atomic import write_json
from zoo_harness.checked import Checked, file_of
from zoo_harness.planning.identity import code_of_job
from zoo_harness.spec.settings import configure

SUITE = """\
from zoo_core.testing.suite import AlgorithmSuite


class TestAlgorithm(AlgorithmSuite):
    name = {name!r}
    settings = {settings!r}
    learns_with = AlgorithmSuite.learns_with | settings
    loops = {loops}
"""


@dataclass(frozen=True)
class Law:
    """One law of the suite, and whether it holds."""

    words: str
    """The law as a sentence."""
    outcome: Literal["holds", "FAILS", "skipped"]
    why: str
    """The first lines of what went wrong, or the reason for not trying; empty where it holds."""
    seconds: float


def check(
    algorithm: Algorithm,
    settings: Mapping[str, object],
    loops: int,
    only: str,
    cache: Path,
    told: Callable[[Law], None],
) -> Checked:
    """Run the suite on an algorithm, telling each law as it ends, and keep what was found if all were tried.

    `settings` replace defaults that are too slow or too large for the suite's 24 rows and 16 tokens. `only` laws that
    hold this text are tried. `SpecError` if there are no such settings or laws.
    """
    configure(algorithm, dict(settings))
    watch = _Watch(told, only)
    with tempfile.TemporaryDirectory(prefix="zoo-check-") as folder:
        file = Path(folder) / "test_algorithm.py"
        file.write_text(SUITE.format(name=algorithm.name, settings=dict(settings), loops=loops), encoding="utf-8")
        # Of the directory that it is called in, pytest is to know nothing: no configuration, no plugins, no cache.
        ours = ["-c", "/dev/null", "--rootdir", folder, "-p", "no:terminal", "-p", "no:cacheprovider"]
        pytest.main([*ours, "--basetemp", str(Path(folder) / "temporary"), str(file)], plugins=[watch])
    if watch.broken or not watch.laws:
        why = watch.broken or f"no law holds the words {only!r}"
        raise SpecError(f"the suite could not be run on {algorithm.name!r}: {why}")
    tried = [law for law in watch.laws if law.outcome != "skipped"]
    found: Checked = {
        "algorithm": algorithm.name,
        "code": code_of_job("train", algorithm),
        "core": version("zoo-core"),
        "settings": dict(settings),
        "laws": [asdict(law) for law in watch.laws],
        "held": sum(law.outcome == "holds" for law in tried),
        "tried": len(tried),
    }
    if not only:
        write_json(file_of(cache, algorithm), found)
    return found


class _Watch:
    """A plugin of pytest that tells each test as a law."""

    def __init__(self, told: Callable[[Law], None], only: str) -> None:
        self.told, self.only, self.laws, self.broken = told, only, list[Law](), ""
        self._began = time.monotonic()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note that the suite could not even be read."""
        if report.failed:
            self.broken = str(report.longrepr).strip().splitlines()[-1]

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave the laws that are asked for."""
        items[:] = [item for item in items if self.only in _words(item.nodeid)]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Tell a test when it has ended: after its call, or where its setup failed or skipped it."""
        if report.when != "call" and not (report.when == "setup" and not report.passed):
            return
        words = _words(report.nodeid)
        seconds, self._began = time.monotonic() - self._began, time.monotonic()
        if report.passed:
            law = Law(words, "holds", "", seconds)
        elif report.skipped:
            law = Law(words, "skipped", str(cast(tuple[object, object, str], report.longrepr)[2]), seconds)
        else:
            law = Law(words, "FAILS", _why(report), seconds)
        self.laws.append(law)
        self.told(law)


def _words(nodeid: str) -> str:
    """Return the law that a test checks: its name as a sentence."""
    return nodeid.rpartition("::")[2].removeprefix("test_").replace("_", " ")


def _why(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else str(report.longrepr)
    place = f" ({crash.path}:{crash.lineno})" if crash else ""
    return "\n".join(text.strip().splitlines()[:3]) + place
