"""Which job is started when: by a place that only pretends to run processes."""

import errno
import fcntl
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from zoo_harness.executors import scheduler
from zoo_harness.executors.scheduler import Exit
from zoo_harness.job import BUSY, Job, Outcome

from zoo_core.errors import StorageError
from zoo_core.storage.atomic import write_json


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(scheduler, "LOOK_AGAIN_SECONDS", 0.0)


class Pretended:
    """Processes that end when the bench pauses; `ends` says how, attempt by attempt, for the title of a job."""

    def __init__(self, **ends: Sequence[Exit]) -> None:
        self.ends = {title: list(exits) for title, exits in ends.items()}
        self.started: list[str] = []
        self.most = 0
        self.stopped: list[Job] = []

    def start(self, job: Job) -> Job:
        self.started.append(job.title)
        return job

    def pause(self, running: Sequence[Job]) -> None:
        self.most = max(self.most, len(running))

    def ended(self, running: Job) -> bool:
        if not self.ends.get(running.title):
            write_json(running.result_file, {"identity": running.identity})
        return True

    def exit(self, ended: Job) -> Exit:
        return self.ends[ended.title].pop(0)

    def stop(self, running: Sequence[Job]) -> None:
        self.stopped = list(running)


def jobs_of(folder: Path, **needs: Sequence[str]) -> list[Job]:
    """A job for each keyword, which needs those of its value."""
    return [
        Job(kind="train", title=title, directory=folder / title, identity=title, needs=tuple(needed))
        for title, needed in needs.items()
    ]


def run(place: Pretended, jobs: Sequence[Job], workers: int = 1, watch=lambda running: None) -> dict[str, Outcome]:
    ended: dict[str, Outcome] = {}

    def finished(job: Job, outcome: Outcome) -> None:
        assert job.title not in ended
        ended[job.title] = outcome

    scheduler.run(place, jobs, finished, workers, watch)
    return ended


KILLED = Exit(killed="was killed by SIGKILL")


def test_every_job_runs_once_after_those_it_needs_and_no_more_at_once_than_there_are_workers(tmp_path):
    place = Pretended()
    ended = run(place, jobs_of(tmp_path, a=(), b=("a",), c=(), d=("b", "c")), workers=2)
    assert place.started == ["a", "c", "b", "d"]
    assert place.most == 2
    assert {outcome.status for outcome in ended.values()} == {"ok"}


def test_a_job_of_several_processes_takes_as_many_places_and_no_place_is_empty_while_jobs_wait(tmp_path):
    one, large, *others = jobs_of(tmp_path, one=(), large=(), two=(), three=())
    place = Pretended()
    busy: list[int] = []

    def watch(running: Sequence[Job]) -> None:
        busy.append(sum(job.processes for job in running))

    run(place, [one, large.model_copy(update={"processes": 2}), *others], workers=2, watch=watch)
    assert place.started == ["one", "two", "large", "three"]
    assert busy == [2, 2, 1]


def test_a_job_of_more_processes_than_there_are_places_runs_alone(tmp_path):
    one, large = jobs_of(tmp_path, one=(), large=())
    place = Pretended()
    run(place, [large.model_copy(update={"processes": 8}), one], workers=2)
    assert place.started == ["large", "one"]
    assert place.most == 1


def test_a_job_that_another_bench_holds_is_left_to_it_and_others_go_on(tmp_path):
    first, *others = jobs_of(tmp_path, a=(), b=(), c=())
    seen: list[list[str]] = []
    lock = first.lock()
    lock.acquire()

    def watch(running: Sequence[Job]) -> None:
        seen.append([job.title for job in running])
        if seen[2:]:  # the other bench has done it
            write_json(first.result_file, {"identity": "a"})
            lock.release(force=True)

    place = Pretended()
    ended = run(place, [first, *others], watch=watch)
    assert place.started == ["b", "c"]
    assert list(ended) == ["b", "c", "a"]
    assert seen[0] == ["b", "a"]  # the table shows it as running


def test_a_job_whose_holder_is_gone_is_taken_over(tmp_path):
    (job,) = jobs_of(tmp_path, a=())
    lock = job.lock()
    lock.acquire()
    place = Pretended()
    ended = run(place, [job], watch=lambda running: lock.release(force=True))
    assert place.started == ["a"]
    assert ended["a"].status == "ok"


def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch):
    """A lock that is a mere file would outlive its holder, or be taken from one that lives."""

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    place = Pretended()
    with pytest.raises(StorageError, match=r"/a: no file can be locked here \(.*not implemented\)\. Give an --output"):
        run(place, jobs_of(tmp_path, a=()))
    assert place.started == []


def test_a_failure_in_another_bench_is_believed(tmp_path):
    failed, following = jobs_of(tmp_path, a=(), b=("a",))
    write_json(failed.failure_file, {"identity": "a", "user": False, "error": "ValueError: no"})
    place = Pretended()
    ended = run(place, [failed, following])
    assert place.started == []
    assert {title: (one.status, one.error) for title, one in ended.items()} == {
        "a": ("failed", "ValueError: no"),
        "b": ("failed", "ValueError: no"),
    }


def test_results_and_failures_of_another_identity_are_none(tmp_path):
    (job,) = jobs_of(tmp_path, a=())
    write_json(job.failure_file, {"identity": "old", "user": False, "error": "no"})
    write_json(job.result_file, {"identity": "old"})
    place = Pretended()
    assert run(place, [job])["a"].status == "ok"
    assert place.started == ["a"]


def test_a_process_that_was_too_late_is_no_attempt(tmp_path):
    place = Pretended(a=[Exit(BUSY), Exit(BUSY), Exit(BUSY), KILLED])
    assert run(place, jobs_of(tmp_path, a=()))["a"].status == "ok"
    assert place.started == ["a"] * 5


def test_a_launcher_that_says_nothing_of_a_lock_was_too_late_all_the_same(tmp_path):
    (job,) = jobs_of(tmp_path, a=())
    place = Pretended(a=[Exit(1), Exit(1)])
    lock = job.lock()
    start, pause = place.start, place.pause

    def other_is_faster(job: Job) -> Job:
        lock.acquire()
        return start(job)

    def other_gives_up(running: Sequence[Job]) -> None:
        if not running:
            lock.release()
            place.start = start
            place.ends.clear()
        pause(running)

    place.start, place.pause = other_is_faster, other_gives_up
    assert run(place, [job])["a"].status == "ok"
    assert place.started == ["a", "a"]


def test_a_killed_process_is_started_once_more(tmp_path):
    once, twice = Pretended(a=[KILLED]), Pretended(a=[KILLED, KILLED])
    assert run(once, jobs_of(tmp_path / "1", a=()))["a"].status == "ok"
    outcome = run(twice, jobs_of(tmp_path / "2", a=()))["a"]
    assert (outcome.status, outcome.error) == ("killed", "the process was killed by SIGKILL")
    assert once.started == twice.started == ["a", "a"]


def test_a_killed_process_whose_lock_is_not_given_up_yet_has_had_its_attempt(tmp_path):
    (job,) = jobs_of(tmp_path, a=())
    place, lock = Pretended(a=[KILLED, KILLED]), job.lock()
    start = place.start

    def given_up_late(running: Sequence[Job]) -> None:
        if not running:  # the bench waits for the lock
            lock.release()

    def start_and_hold(job: Job) -> Job:
        lock.acquire()
        return start(job)

    place.start, place.pause = start_and_hold, given_up_late
    assert run(place, [job])["a"].status == "killed"
    assert place.started == ["a", "a"]


def test_a_process_that_would_be_killed_again_is_not_started_again(tmp_path):
    place = Pretended(a=[Exit(killed="reached its time limit", again=False)])
    outcome = run(place, jobs_of(tmp_path, a=()))["a"]
    assert (outcome.status, outcome.error) == ("killed", "the process reached its time limit")
    assert place.started == ["a"]


def test_a_process_that_leaves_neither_result_nor_failure_has_failed(tmp_path):
    outcome = run(Pretended(a=[Exit(3)]), jobs_of(tmp_path, a=()))["a"]
    assert outcome.status == "failed"
    assert "exited with code 3 without a word; see" in outcome.error


def test_what_runs_is_stopped_when_the_bench_is(tmp_path):
    def interrupt(running: Sequence[Job]) -> None:
        raise KeyboardInterrupt

    place = Pretended()
    jobs = jobs_of(tmp_path, a=(), b=())
    with pytest.raises(KeyboardInterrupt):
        run(place, jobs, workers=2, watch=interrupt)
    assert place.stopped == jobs


def test_a_job_is_written_before_it_starts(tmp_path):
    class Reading(Pretended):
        def start(self, job: Job) -> Job:
            assert json.loads(job.file.read_text())["title"] == "a"
            return super().start(job)

    run(Reading(), jobs_of(tmp_path, a=()))
