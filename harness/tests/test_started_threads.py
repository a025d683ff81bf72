"""An algorithm that computes in threads, where no operator is counted, is named with what ran there."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tqdm import tqdm
from zoo_harness.jobs.started_threads import StartedThreads


def in_a_thread(does: Callable[[], object]) -> None:
    thread = threading.Thread(target=does)
    thread.start()
    thread.join()


def in_a_pool(does: Callable[[], object]) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: does(), range(3)))


def flags(makes: Callable[[], object]) -> list[str]:
    def steps() -> Iterator[int]:
        makes()
        yield 1

    threads = StartedThreads()
    assert list(threads.of(steps())) == [1]
    return threads.flags


@pytest.mark.parametrize("start", [in_a_thread, in_a_pool])
def test_code_that_runs_in_a_thread_of_a_step_is_named(start) -> None:
    assert flags(lambda: start(lambda: sum(range(9)))) == [
        f"started a thread, in which no compute is audited: {__name__}"
    ]


def test_threads_that_libraries_start_by_themselves_are_not_flagged() -> None:
    monitored, before = tqdm.monitor_interval, tqdm.monitor
    tqdm.monitor, tqdm.monitor_interval = None, 1
    try:
        with open("/dev/null", "w") as nowhere:
            assert flags(lambda: list(tqdm([1], file=nowhere))) == []
        assert tqdm.monitor is not None, "tqdm started no thread, so this test says nothing"
        tqdm.monitor.exit()
    finally:
        tqdm.monitor, tqdm.monitor_interval = before, monitored


def test_a_thread_that_starts_between_steps_or_elsewhere_is_not_the_algorithm_s() -> None:
    threads = StartedThreads()
    for _ in threads.of(iter([1, 2])):
        in_a_thread(lambda: sum(range(9)))
    in_a_thread(lambda: sum(range(9)))
    assert threads.flags == []


def test_a_profiler_of_threads_that_was_there_is_there_again() -> None:
    heard: list[str] = []
    threading.setprofile(lambda frame, event, argument: heard.append(event))
    try:
        assert flags(lambda: None) == []
        in_a_thread(lambda: None)
    finally:
        threading.setprofile(None)  # type: ignore[arg-type]
    assert heard


def test_a_step_that_fails_leaves_no_profiler_behind() -> None:
    with pytest.raises(ZeroDivisionError):
        flags(lambda: 1 / 0)
    assert threading.getprofile() is None
