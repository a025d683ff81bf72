"""What an algorithm computes in threads is counted, and told with the module that starts them."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tqdm import tqdm
from zoo_harness.jobs.started_threads import StartedThreads

from zoo_core.compute.sampler import sample_cached

UNLIMITED = float("inf")
SAID = f"unmetered compute: {{}} FLOPs in threads that {__name__} starts, which no audit sees"


def multiply() -> None:
    """2 x 4 x 8 x 2 = 128 FLOPs."""
    torch.ones(4, 8) @ torch.ones(8, 2)


def in_a_thread(does: Callable[[], object]) -> None:
    thread = threading.Thread(target=does)
    thread.start()
    thread.join()


def in_a_pool(does: Callable[[], object]) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: does(), range(3)))


def flags(makes: Callable[[], object], budget: float = UNLIMITED, engine: Any = sample_cached) -> list[str]:
    def steps() -> Iterator[int]:
        makes()
        yield 1

    threads = StartedThreads(budget, engine)
    assert list(threads.of(steps())) == [1]
    return threads.flags


@pytest.mark.parametrize(("start", "flops"), [(in_a_thread, 128), (in_a_pool, 384)])
def test_what_is_computed_in_threads_of_a_step_is_counted_and_told(start, flops: int) -> None:
    assert flags(lambda: start(multiply)) == [SAID.format(flops)]


def test_a_thread_of_a_thread_is_counted_too() -> None:
    assert flags(lambda: in_a_thread(lambda: in_a_pool(multiply))) == [SAID.format(384)]


def test_a_class_of_threads_with_its_own_run_is_counted() -> None:
    class Own(threading.Thread):
        def run(self) -> None:
            multiply()

    def both() -> None:
        thread = Own()
        thread.start()
        thread.join()

    assert flags(both) == [SAID.format(128)]


def test_little_compute_and_none_are_not_worth_a_flag() -> None:
    assert flags(lambda: in_a_thread(lambda: None)) == []
    assert flags(lambda: in_a_thread(multiply), budget=128_000) == []
    assert flags(lambda: in_a_thread(multiply), budget=127_000) == [SAID.format(128)]


def test_an_operator_that_nobody_can_count_is_named() -> None:
    assert flags(lambda: in_a_thread(lambda: torch.linalg.svd(torch.eye(2)))) == [
        f"compute in threads that {__name__} starts could not be audited: "
        "aten._linalg_svd.default: its FLOPs are not known"
    ]


def test_a_counter_counts_no_other_thread() -> None:
    from zoo_core.accounting.audit import ExactCounter, count_again

    with ExactCounter() as mine:
        in_a_thread(lambda: count_again(1))
        count_again(10)
    assert mine.total == 10


def test_a_rollout_engine_that_samples_elsewhere_has_threads_of_its_own() -> None:
    engine = SimpleNamespace(samples_elsewhere=True, __module__=f"{__name__}.engine")
    assert flags(lambda: in_a_pool(multiply), engine=engine) == []
    engine = SimpleNamespace(samples_elsewhere=False, __module__=f"{__name__}.engine")
    assert flags(lambda: in_a_pool(multiply), engine=engine) == [SAID.format(384)]


def test_threads_that_libraries_start_by_themselves_run_as_ever() -> None:
    monitored, before = tqdm.monitor_interval, tqdm.monitor
    tqdm.monitor, tqdm.monitor_interval = None, 1
    try:
        with open("/dev/null", "w") as nowhere:
            assert flags(lambda: list(tqdm([1], file=nowhere))) == []
        assert tqdm.monitor is not None, "tqdm started no thread, so this test says nothing"
        assert "run" not in vars(tqdm.monitor)
        tqdm.monitor.exit()
    finally:
        tqdm.monitor, tqdm.monitor_interval = before, monitored


def test_a_thread_that_starts_between_steps_or_later_is_not_the_algorithm_s() -> None:
    threads = StartedThreads(UNLIMITED, sample_cached)
    for _ in threads.of(iter([1, 2])):
        in_a_thread(multiply)
    in_a_thread(multiply)
    assert threads.flags == []


def test_a_step_that_fails_leaves_threads_as_they_were() -> None:
    start = threading.Thread.start
    with pytest.raises(ZeroDivisionError):
        flags(lambda: 1 / 0)
    assert threading.Thread.start is start
