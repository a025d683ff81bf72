"""Which job has which GPU. The GPUs are names here: no job of these tests computes on one."""

import os

import pytest
from zoo_harness.executors import local
from zoo_harness.executors.gpus import GPU, jobs_at_once, least_taken, listed
from zoo_harness.job import read_json
from zoo_harness.jobs import worker

from zoo_core.errors import SpecError

ANSWER = "0, GPU-8f6e, 81559\n1, GPU-11aa, 24564\n2, GPU-22bb, [N/A]\n"
GIB = 2**30


def test_gpus_are_those_that_the_driver_lists():
    assert [gpu.name for gpu in listed(ANSWER, None)] == ["0", "1", "2"]
    assert [gpu.memory for gpu in listed(ANSWER, None)] == [81559 * 2**20, 24564 * 2**20, None]
    assert listed("", None) == listed("no devices were found\n", None) == ()


@pytest.mark.parametrize(
    ("named", "names"),
    [("1,0", ["1", "0"]), ("GPU-11aa", ["GPU-11aa"]), ("", []), ("1,-1,0", ["1"]), ("MIG-77", ["MIG-77"])],
)
def test_only_gpus_that_the_environment_names_are_used_in_its_order(named, names):
    assert [gpu.name for gpu in listed(ANSWER, named.split(","))] == names
    assert {gpu.name: gpu.memory for gpu in listed(ANSWER, ["GPU-11aa", "MIG-77"])} == {
        "GPU-11aa": 24564 * 2**20,
        "MIG-77": None,
    }


@pytest.mark.parametrize(
    ("memory", "need", "cores", "jobs"),
    [
        ([80 * GIB], 10 * GIB, 16, 6),  # 0.8 · 80 / 10
        ([80 * GIB], 10 * GIB, 2, 2),
        ([80 * GIB, 24 * GIB], 10 * GIB, 16, 7),
        ([24 * GIB], 40 * GIB, 16, 1),  # does not fit: it is tried all the same
        ([None, None], 10 * GIB, 1, 2),
        ([24 * GIB], 0, 16, 1),
        ([], 10 * GIB, 16, 1),
    ],
)
def test_a_gpu_has_as_many_jobs_as_fit_by_what_was_measured(memory, need, cores, jobs):
    assert jobs_at_once([GPU(str(number), size) for number, size in enumerate(memory)], need, cores) == jobs


def test_a_job_gets_the_gpu_that_the_fewest_have():
    assert least_taken(["a", "b"], []) == "a"
    assert least_taken(["a", "b"], ["a"]) == "b"
    assert least_taken(["a", "b"], ["b", "a", "b"]) == "a"
    assert least_taken([], []) is None


@pytest.mark.slow
def test_every_job_of_a_bench_sees_one_gpu_and_all_gpus_are_used(zoo, world, tmp_path):
    options = ["--output", tmp_path / "bench", "--option", "gpus=one,two", "--workers", "2"]
    done = zoo("bench", world / "spec.yaml", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    begun = [read_json(path) for path in (tmp_path / "bench").rglob("begun.json")]
    assert {one["gpu"] for one in begun} == {"one", "two"}


def test_a_process_that_was_given_a_gpu_sees_no_other(tmp_path, monkeypatch):
    seen = {}

    def look(job) -> int:
        seen["gpus"] = os.environ["CUDA_VISIBLE_DEVICES"]
        return 0

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    monkeypatch.setattr(worker, "do", look)
    monkeypatch.setattr(worker, "of_file", lambda path: path)
    monkeypatch.setattr(worker, "end", lambda code: None)
    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)
    monkeypatch.setenv(worker.GPU, "")
    worker.main(str(tmp_path), "1")
    assert seen == {"gpus": "1"}


def test_other_options_of_the_local_executor_are_refused():
    with pytest.raises(SpecError, match="the option gpus alone, and cpus was given"):
        local.run([], lambda *_: None, 1, options={"cpus": "1"})
