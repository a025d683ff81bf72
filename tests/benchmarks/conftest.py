"""Options of the benchmarks, and what keeps their results."""

from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import pytest
from measure import keep


def pytest_addoption(parser):
    group = parser.getgroup("zoo")
    group.addoption("--repetitions", type=int, default=5, help="interleaved repetitions of a comparison")
    group.addoption("--updates", type=int, default=8, help="updates of a repetition, the first two untimed")
    group.addoption("--threads", type=int, default=2, help="threads of a process that computes")


@pytest.fixture(scope="session")
def repetitions(pytestconfig) -> int:
    return pytestconfig.getoption("repetitions")


@pytest.fixture(scope="session")
def updates(pytestconfig) -> int:
    return pytestconfig.getoption("updates")


@pytest.fixture(scope="session")
def threads(pytestconfig) -> Iterator[int]:
    """Return the number of threads, which this process is set to as well."""
    import torch

    before, wanted = torch.get_num_threads(), pytestconfig.getoption("threads")
    torch.set_num_threads(wanted)
    yield wanted
    torch.set_num_threads(before)


@pytest.fixture
def record(pytestconfig, benchmark) -> Callable[..., None]:
    """Return what keeps a row of results.json with the options it was measured under."""

    def write(section: str, row: str, **values: Any) -> None:
        benchmark.extra_info.update(values)
        given = {name: pytestconfig.getoption(name) for name in ("repetitions", "threads")}
        keep(section, row, values | given | {"torch": version("torch")})

    return write
