"""The suite that every executor must pass: jobs that succeed, raise, exit, hang and are killed, each for itself.

    class TestMine(ExecutorSuite):
        executor = "mine"

What the jobs compute is pretended, so nothing is trained: Python's own way to run something at its start puts it into
every process that an executor starts on this machine.
"""
# ruff: noqa: D102  # the name of a test is the sentence

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import pytest
from filelock import Timeout

from zoo_core.errors import SpecError
from zoo_harness.executors.runner import Runner
from zoo_harness.job import Job, Outcome, read_json

PRETENDED = """
import multiprocessing.forkserver, os, signal, sys, time, types

multiprocessing.forkserver.ForkServer.set_forkserver_preload = lambda *_: None  # these jobs need none of it

def compute(job):
    mark = job.directory / "left"
    before = mark.exists()
    mark.write_text(str(os.getpid()))
    does = job.title.split(":")[0]
    if does == "raises":
        raise ValueError("this job raises")
    if does == "exits":
        sys.exit("this job exits")
    if does == "dies" or (does == "dies once" and not before):
        os.kill(os.getpid(), signal.SIGKILL)
    if does == "hangs" or (does == "waits once" and not before):
        time.sleep(100)
    began = time.time()
    if does == "works":
        time.sleep(1)
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES")
    return {"identity": job.identity, "goes_on": before, "gpu": gpu, "from": began, "to": time.time()}

sys.modules["zoo_harness.jobs.train"] = types.SimpleNamespace(run=compute)
"""
"""Stands in for training. The file `left` in a job's folder holds the process that did it last."""

Watch = Callable[[Sequence[Job]], None]


def pretend(site: Path, patch: pytest.MonkeyPatch) -> None:
    """Let all processes that are started from now on pretend to train; `site` is a folder for the module that does."""
    (site / "sitecustomize.py").write_text(PRETENDED)
    patch.setenv("PYTHONPATH", str(site), prepend=":")


def job_that(does: str, folder: Path, needs: Sequence[str] = ()) -> Job:
    """Return a job that "is done", "raises", "exits", "dies", "dies once", "hangs", "waits once" or "works".

    Words behind a colon tell jobs apart that do the same; `needs` are the words of the jobs it needs.
    """
    name = does.replace(" ", "-").replace(":", "-")
    return Job(
        kind="train",
        title=does,
        directory=folder / "jobs" / name,
        identity=does,
        needs=tuple(needs),
        payload={"algorithm": "pretended", "settings": {}, "spec": {"name": "made"}},
    )


def attempts(job: Job) -> int:
    """Return how often a job was begun."""
    return int(str((read_json(job.directory / "begun.json") or {})["attempts"]))


def is_free(job: Job) -> bool:
    """Return whether no process does the job, nor will within ten seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            with job.lock().acquire(blocking=False):
                return True
        except Timeout:
            time.sleep(0.1)
    return False


class ExecutorSuite:
    """Subclass it in the tests of a plugin, and name the executor."""

    executor: ClassVar[str]
    """Its name."""
    places: ClassVar[int] = 2
    """Jobs that run at once."""
    ends_after_seconds: ClassVar[Mapping[str, str]] = {}
    """Options by which a job that hangs is ended after some seconds; none, if the executor knows no time limit."""
    wrong: ClassVar[Mapping[str, Mapping[str, str]]] = {}
    """Options that are refused, by a regular expression of what is said about them."""

    @pytest.fixture(autouse=True)
    def _pretended(self, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
        pretend(tmp_path_factory.mktemp("site"), monkeypatch)

    @pytest.fixture
    def options(self) -> Mapping[str, str]:
        """Options of every run, besides those of the record; replace it if the tests need some."""
        return {}

    def run(
        self, jobs: Sequence[Job], folder: Path, options: Mapping[str, str], watch: Watch = lambda running: None
    ) -> dict[str, Outcome]:
        """Run jobs by the executor; return how each ended, by its title."""
        ended: dict[str, Outcome] = {}

        def finished(job: Job, outcome: Outcome) -> None:
            assert job.title not in ended
            ended[job.title] = outcome

        Runner(self.executor, options)(jobs, finished, self.places, watch, folder)
        return ended

    @pytest.mark.slow
    def test_jobs_succeed_raise_exit_and_die_each_for_itself(self, tmp_path: Path, options: Mapping[str, str]) -> None:
        jobs = [job_that(does, tmp_path) for does in ("is done", "raises", "exits", "dies once", "dies")]
        jobs.append(job_that("is done:too", tmp_path, needs=["is done"]))
        jobs.append(job_that("is done:never", tmp_path, needs=["is done", "raises"]))
        ended = self.run(jobs, tmp_path, options)
        assert {title: outcome.status for title, outcome in ended.items()} == {
            "is done": "ok",
            "is done:too": "ok",
            "raises": "failed",
            "is done:never": "failed",
            "exits": "failed",
            "dies": "killed",
            "dies once": "ok",
        }
        assert ended["raises"].error == ended["is done:never"].error == "ValueError: this job raises"
        assert ended["exits"].error == "SystemExit: this job exits"
        assert "was killed by SIGKILL" in ended["dies"].error
        by_title = {job.title: job for job in jobs}
        assert (by_title["dies once"].result() or {})["goes_on"]
        tried = {title: attempts(job) for title, job in by_title.items() if title != "is done:never"}
        assert tried == {"is done": 1, "is done:too": 1, "raises": 1, "exits": 1, "dies once": 2, "dies": 2}
        assert "Traceback" in (by_title["raises"].directory / "log.txt").read_text()

    @pytest.mark.slow
    def test_as_many_jobs_run_at_once_as_there_are_places(self, tmp_path: Path, options: Mapping[str, str]) -> None:
        jobs = [job_that(f"works:{number}", tmp_path) for number in range(self.places + 1)]
        assert {outcome.status for outcome in self.run(jobs, tmp_path, options).values()} == {"ok"}
        results = [job.result() or {} for job in jobs]
        spans = sorted((float(str(result["from"])), float(str(result["to"]))) for result in results)
        at_once = [sum(start <= moment < end for start, end in spans) for moment, _ in spans]
        assert max(at_once) == self.places

    @pytest.mark.slow
    def test_a_job_that_hangs_is_ended_by_the_time_limit_and_the_same_command_goes_on_with_it(
        self, tmp_path: Path, options: Mapping[str, str]
    ) -> None:
        if not self.ends_after_seconds:
            pytest.skip("it knows no time limit")
        job = job_that("hangs", tmp_path)
        ended = self.run([job], tmp_path, {**options, **self.ends_after_seconds})
        assert ended["hangs"].status == "killed"
        assert ended["hangs"].error.startswith("the process reached its time limit of ")
        assert attempts(job) == 1
        assert job.failure() is None
        assert is_free(job)

    @pytest.mark.slow
    def test_what_stops_the_bench_ends_the_jobs_that_run_and_starts_no_other(
        self, tmp_path: Path, options: Mapping[str, str]
    ) -> None:
        jobs = [job_that(f"hangs:{number}", tmp_path) for number in range(self.places + 1)]
        begun = jobs[: self.places]

        def interrupt(running: Sequence[Job]) -> None:
            if all((job.directory / "left").exists() for job in begun):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            self.run(jobs, tmp_path, options, interrupt)
        assert all(is_free(job) for job in begun)
        assert all(job.result() is job.failure() is None for job in jobs)
        assert not (jobs[-1].directory / "left").exists()

    def test_a_wrong_option_is_refused_before_anything_is_started(
        self, tmp_path: Path, options: Mapping[str, str]
    ) -> None:
        for says, wrong in self.wrong.items():
            job = job_that("is done", tmp_path)
            with pytest.raises(SpecError, match=says):
                self.run([job], tmp_path, {**options, **wrong})
            assert not job.directory.exists(), wrong
