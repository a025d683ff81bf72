"""Jobs that succeed, raise, exit, hang and are killed, on a Ray of two nodes with a GPU each that is a name only."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster
from zoo_harness.job import Job, read_json
from zoo_harness.testing.executors import ExecutorSuite, job_that, pretend
from zoo_ray.executor import run

from zoo_core.errors import SpecError
from zoo_core.registry.plugins import plugins


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes of this machine, each with one core and one GPU."""
    with pytest.MonkeyPatch.context() as patch:
        pretend(tmp_path_factory.mktemp("site"), patch)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 1})
        cluster.add_node(num_cpus=1, num_gpus=1)
        yield cluster
        cluster.shutdown()


class TestRay(ExecutorSuite):
    executor = "ray"
    ends_after_seconds: ClassVar = {"timeout_min": "0.3"}
    wrong: ClassVar = {
        "no option 'gpu'. Did you mean 'gpus'": {"gpu": "1"},
        "gpus=two: it must be a number": {"gpus": "two"},
        "timeout_min=-1: it must be a number": {"timeout_min": "-1"},
        "no node of this Ray has what one job asks for, 1 CPU, 3 GPU": {"gpus": "3"},
    }

    @pytest.fixture
    def options(self, cluster: Cluster) -> Mapping[str, str]:
        return {"address": cluster.address}

    @pytest.fixture(autouse=True)
    def _ends(self) -> Iterator[None]:
        """No run leaves this process connected."""
        yield
        assert not ray.is_initialized()

    @pytest.mark.slow
    def test_no_gpu_has_two_jobs_that_asked_for_a_whole_one(self, tmp_path, options):
        jobs = [job_that(f"works:{number}", tmp_path) for number in range(4)]
        self.places = 4
        ended = self.run(jobs, tmp_path, options)
        assert {outcome.status for outcome in ended.values()} == {"ok"}
        results = [job.result() or {} for job in jobs]
        assert {result["gpu"] for result in results} == {"0"}  # each node numbers its own
        spans = sorted((result["from"], result["to"]) for result in results)
        assert max(sum(start <= moment < end for start, end in spans) for moment, _ in spans) == 2

    @pytest.mark.slow
    def test_a_job_that_asked_for_no_gpu_sees_none(self, tmp_path, options):
        job = job_that("is done", tmp_path)
        assert self.run([job], tmp_path, {**options, "gpus": "0"})["is done"].status == "ok"
        assert (job.result() or {})["gpu"] == ""
        assert "gpu" not in (read_json(job.directory / "begun.json") or {})

    @pytest.mark.slow
    def test_a_job_whose_node_dies_is_started_again_elsewhere(self, cluster, tmp_path, options):
        job = job_that("waits once", tmp_path)
        nodes = [cluster.add_node(num_cpus=1, num_gpus=2)]  # no other has two GPUs
        processes: list[int] = []

        def node_dies(running: Sequence[Job]) -> None:
            if not processes and (job.directory / "left").exists():
                processes.append(int((job.directory / "left").read_text()))
                cluster.remove_node(nodes.pop(), allow_graceful=False)
                nodes.append(cluster.add_node(num_cpus=1, num_gpus=2))

        ended = self.run([job], tmp_path, {**options, "gpus": "2"}, node_dies)
        cluster.remove_node(nodes.pop())
        assert ended["waits once"].status == "ok"
        assert (job.result() or {})["goes_on"]
        assert (job.result() or {})["gpu"] == "0,1"
        assert not psutil.pid_exists(processes[0])


def test_a_ray_that_is_not_there_is_a_mistake_of_the_user(tmp_path, monkeypatch):
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("nobody answers")

    monkeypatch.setattr(ray, "init", unreachable)
    options = {**plugins().executors["ray"].options, "address": "1.2.3.4:6379"}
    with pytest.raises(SpecError, match=r"Ray at 1\.2\.3\.4:6379 cannot be reached: nobody answers.*ray start"):
        run([], lambda job, outcome: None, 1, lambda running: None, options, tmp_path)


def test_listing_it_imports_no_ray():
    assert plugins().executors["ray"].run == "zoo_ray.executor:run"
