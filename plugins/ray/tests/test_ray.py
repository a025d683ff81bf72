"""Jobs that succeed, raise, exit, hang and are killed, on a Ray of two nodes with a GPU each that is a name only."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster
from zoo_harness.job import Job, Outcome, read_json
from zoo_ray.executor import run

from zoo_core.errors import SpecError
from zoo_core.registry.plugins import plugins

PRETENDED = """
import multiprocessing.forkserver, os, signal, sys, time, types

multiprocessing.forkserver.ForkServer.set_forkserver_preload = lambda *_: None  # these cells need none of it

def compute(job):
    left = job.directory / "left"
    before = left.exists()
    left.write_text(str(os.getpid()))
    does = job.payload["does"].split(":")[0]
    if does == "raises":
        raise ValueError("this cell raises")
    if does == "exits":
        sys.exit("this cell exits")
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
"""Stands in for training in every process, by Python's own way to run something at its start."""

Watch = Callable[[Sequence[Job]], None]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes of this machine, each with one core and one GPU."""
    site = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text(PRETENDED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(site))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 1})
        cluster.add_node(num_cpus=1, num_gpus=1)
        yield cluster
        cluster.shutdown()


def job_that(does: str, folder: Path, needs: Sequence[str] = ()) -> Job:
    name = does.replace(" ", "-").replace(":", "-")
    return Job(
        kind="train",
        title=does,
        directory=folder / "cells" / name,
        identity=does,
        needs=tuple(needs),
        payload={"does": does, "spec": {"name": "made"}},
    )


def on_ray(
    cluster: Cluster, jobs: Sequence[Job], folder: Path, watch: Watch = lambda running: None, **options: object
) -> dict[str, Outcome]:
    ended: dict[str, Outcome] = {}

    def finished(job: Job, outcome: Outcome) -> None:
        assert job.title not in ended
        ended[job.title] = outcome

    given = {**plugins().executors["ray"].options, "address": cluster.address, **options}
    run(jobs, finished, 8, watch, given, folder / "ray")
    return ended


def attempts(job: Job) -> int:
    return (read_json(job.directory / "begun.json") or {})["attempts"]


def is_alive(job: Job) -> bool:
    """Whether the process lives that did the job first, or last."""
    return psutil.pid_exists(int((job.directory / "left").read_text()))


@pytest.mark.slow
def test_cells_succeed_raise_exit_and_die_each_for_itself(cluster, tmp_path):
    jobs = [job_that(does, tmp_path) for does in ("is done", "raises", "exits", "dies once", "dies")]
    jobs.append(job_that("is done, too", tmp_path, needs=["is done"]))
    jobs.append(job_that("never starts", tmp_path, needs=["is done", "raises"]))
    ended = on_ray(cluster, jobs, tmp_path)
    assert {title: outcome.status for title, outcome in ended.items()} == {
        "is done": "ok",
        "is done, too": "ok",
        "raises": "failed",
        "never starts": "failed",
        "exits": "failed",
        "dies": "killed",
        "dies once": "ok",
    }
    assert ended["raises"].error == ended["never starts"].error == "ValueError: this cell raises"
    assert ended["exits"].error == "SystemExit: this cell exits"
    assert "was killed by SIGKILL" in ended["dies"].error
    by_title = {job.title: job for job in jobs}
    tried = {title: attempts(job) for title, job in by_title.items() if title != "never starts"}
    assert tried == {"is done": 1, "is done, too": 1, "raises": 1, "exits": 1, "dies once": 2, "dies": 2}
    assert "Traceback" in (by_title["raises"].directory / "log.txt").read_text()


@pytest.mark.slow
def test_all_gpus_work_at_once_and_none_has_two_jobs_that_asked_for_a_whole_one(cluster, tmp_path):
    jobs = [job_that(f"works:{number}", tmp_path) for number in range(3)]
    ended = on_ray(cluster, jobs, tmp_path)
    assert {outcome.status for outcome in ended.values()} == {"ok"}
    results = [job.result() or {} for job in jobs]
    assert {result["gpu"] for result in results} == {"0"}  # each node numbers its own
    spans = sorted((result["from"], result["to"]) for result in results)
    at_once = [sum(start <= moment < end for start, end in spans) for moment, _ in spans]
    assert max(at_once) == 2, "one of the GPUs was idle, or had two jobs"


@pytest.mark.slow
def test_a_job_that_asked_for_no_gpu_sees_none(cluster, tmp_path):
    job = job_that("is done", tmp_path)
    assert on_ray(cluster, [job], tmp_path, gpus=0)["is done"].status == "ok"
    assert (job.result() or {})["gpu"] == ""
    assert "gpu" not in (read_json(job.directory / "begun.json") or {})


@pytest.mark.slow
def test_a_cell_that_hangs_is_ended_by_the_time_limit_and_reported_as_such(cluster, tmp_path):
    job = job_that("hangs", tmp_path)
    ended = on_ray(cluster, [job], tmp_path, timeout_min=0.3)
    assert ended["hangs"].status == "killed"
    assert ended["hangs"].error.startswith("the process reached its time limit of 0.3 minutes")
    assert attempts(job) == 1
    assert job.failure() is None  # so that the same command goes on with it
    assert not is_alive(job)


@pytest.mark.slow
def test_a_cell_whose_node_dies_is_started_again_elsewhere(cluster, tmp_path):
    job, nodes = job_that("waits once", tmp_path), [cluster.add_node(num_cpus=1, num_gpus=2)]  # no other has two GPUs
    processes: list[int] = []

    def node_dies(running: Sequence[Job]) -> None:
        if not processes and (job.directory / "left").exists():
            processes.append(int((job.directory / "left").read_text()))
            cluster.remove_node(nodes.pop(), allow_graceful=False)
            nodes.append(cluster.add_node(num_cpus=1, num_gpus=2))

    ended = on_ray(cluster, [job], tmp_path, node_dies, gpus=2)
    cluster.remove_node(nodes.pop())
    assert ended["waits once"].status == "ok"
    assert (job.result() or {})["goes_on"]
    assert (job.result() or {})["gpu"] == "0,1"
    assert not psutil.pid_exists(processes[0])


@pytest.mark.slow
def test_what_stops_the_bench_ends_the_jobs_and_leaves_no_process(cluster, tmp_path):
    jobs = [job_that(f"hangs:{number}", tmp_path) for number in range(3)]

    def interrupt(running: Sequence[Job]) -> None:
        if all((job.directory / "left").exists() for job in jobs[:2]):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        on_ray(cluster, jobs, tmp_path, interrupt)
    assert not ray.is_initialized()
    deadline = time.monotonic() + 10
    while any(is_alive(job) for job in jobs[:2]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(is_alive(job) for job in jobs[:2])
    assert not (jobs[2].directory / "left").exists()


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"gpu": "1"}, "no option 'gpu'. Did you mean 'gpus'"),
        ({"gpus": "two"}, "gpus=two: it must be a number"),
        ({"timeout_min": -1}, "timeout_min=-1: it must be a number"),
        ({"gpus": 3}, "no node of this Ray has what one job asks for, 1 CPU, 3 GPU"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_started(cluster, tmp_path, option, says):
    job = job_that("is done", tmp_path)
    with pytest.raises(SpecError, match=says):
        on_ray(cluster, [job], tmp_path, **option)
    assert not job.directory.exists()


def test_a_ray_that_is_not_there_is_a_mistake_of_the_user(tmp_path, monkeypatch):
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("nobody answers")

    monkeypatch.setattr(ray, "init", unreachable)
    options = {**plugins().executors["ray"].options, "address": "1.2.3.4:6379"}
    with pytest.raises(SpecError, match=r"Ray at 1\.2\.3\.4:6379 cannot be reached: nobody answers.*ray start"):
        run([], lambda job, outcome: None, 1, lambda running: None, options, tmp_path)


def test_listing_it_imports_no_ray():
    assert plugins().executors["ray"].run == "zoo_ray.executor:run"
