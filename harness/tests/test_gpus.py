"""Which job has which GPU. The GPUs are names here: no job of these tests computes on one."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file
from zoo_harness.executors import local
from zoo_harness.executors.gpus import GPU, jobs_at_once, least_taken, listed
from zoo_harness.job import Job, read_json
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


def test_a_job_gets_the_gpus_that_the_fewest_have():
    assert least_taken(["a", "b"], []) == ["a"]
    assert least_taken(["a", "b"], ["a"]) == ["b"]
    assert least_taken(["a", "b"], ["b", "a", "b"]) == ["a"]
    assert least_taken(["a", "b", "c"], ["b", "a", "b"], 2) == ["c", "a"]
    assert least_taken(["a"], [], 2) == ["a"]
    assert least_taken([], []) == []


@pytest.mark.slow
def test_every_job_of_a_bench_sees_one_gpu_and_all_gpus_are_used(zoo, world, tmp_path):
    options = ["--output", tmp_path / "bench", "--option", "gpus=one,two", "--workers", "2"]
    done = zoo("bench", world / "spec.yaml", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    begun = [read_json(path) for path in (tmp_path / "bench").rglob("begun.json")]
    assert {one["gpu"] for one in begun} == {"one", "two"}


TOO_LARGE = """
import os
from dataclasses import dataclass
from zoo_core.hookspecs import hookimpl
from zoo_core.records import Algorithm

@dataclass(frozen=True)
class Config:
    batch_size: int = 8
    \"\"\"Rows per update.\"\"\"

@hookimpl
def zoo_algorithms():
    return [
        Algorithm(name=name, summary="-", paper="-", config="large:Config", train="large:" + name,
                  learns_from=("demonstrations",), by_default=False)
        for name in ("fits", "too_large", "stays_alone")
    ]

def fits(config, run):
    import torch
    from zoo_core.functional import masked_mean
    from zoo_core.rollout import response_logprobs

    optimizer = run.keep("optimizer", torch.optim.AdamW(run.policy.parameters(), lr=1e-3))
    for update in run.updates():
        rows = run.demonstrations.batch(update, config.batch_size)
        loss = -masked_mean(response_logprobs(run.policy, rows), rows.mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield {"loss": loss.item()}

def too_large(config, run):
    import torch

    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80.00 GiB")
    yield from fits(config, run)

def stays_alone(config, run):
    from zoo_core.errors import ModelError

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ModelError("FSDP2: it has parts that share memory.")
    yield from too_large(config, run)
"""
"""Algorithms that do the same; two find too little memory while they have one GPU, and one of them refuses a second."""


@pytest.fixture(scope="module")
def too_large(world: Path, written: dict[str, Any]) -> Path:
    (world / "large.py").write_text(TOO_LARGE)
    spec = {
        **written,
        "algorithms": ["fits", "too_large", "stays_alone"],
        "budget": 4e8,
        "seeds": 1,
        "tasks": [],
        "reward": None,
        "lora": {"rank": 4},
    }
    (world / "large.yaml").write_text(yaml.safe_dump(spec))
    return world / "large.yaml"


@pytest.mark.slow
def test_a_row_that_is_too_large_for_one_gpu_is_trained_by_two_and_learns_the_same(zoo, too_large, tmp_path):
    out = tmp_path / "out"
    options = ["--plugin", too_large.parent / "large.py", "--output", out, "--option", "gpus=one,two"]
    done = zoo("bench", too_large, *options, cwd=too_large.parent)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "CUDA out of memory. Tried to allocate 80.00 GiB Several GPUs cannot share it: FSDP2" in " ".join(
        read_json(out / "records" / "stays_alone-seed0.json")["error"].split()
    )
    assert "too little memory: measuring again, on 2 GPUs together" in done.stdout + done.stderr
    assert "too_large: one GPU has too little memory for it, so 2 train it together" in " ".join(done.stdout.split())
    cells = {name: out / "cells" / f"{name}-seed0" for name in ("fits", "too_large")}
    assert read_json(cells["too_large"] / "begun.json")["gpu"] == "one,two"
    assert read_json(cells["fits"] / "begun.json")["gpu"] in ("one", "two")
    ledgers = {name: read_json(cell / "result.json")["ledger"] for name, cell in cells.items()}
    for key in ("flops", "updates", "rows"):
        assert ledgers["too_large"][key] == ledgers["fits"][key], key
    measured = {name: read_json(out / "probe" / "rows" / name / "result.json")["cost"] for name in cells}
    assert [measured[name]["processes"] for name in cells] == [1, 2]
    assert measured["too_large"]["loops"][0]["flops"] == measured["fits"]["loops"][0]["flops"]
    for kind in ("weights", "gradients", "states", "undo"):  # of all GPUs together
        assert measured["too_large"]["held"][kind] == measured["fits"]["held"][kind], kind
    held = [sum(measured[name]["held"]["activations"].values()) for name in cells]
    assert held[1] == pytest.approx(held[0], rel=0.01)
    (cells["too_large"] / "result.json").unlink()  # as a task of SLURM does it
    environment = {"CUDA_VISIBLE_DEVICES": "three,four", "ZOO_PLUGINS": str(too_large.parent / "large.py")}
    task = zoo("job", cells["too_large"] / "job.json", cwd=too_large.parent, **environment)
    assert task.returncode == 0, task.stderr
    assert read_json(cells["too_large"] / "begun.json")["gpu"] == "three,four"
    weights, expected = (load_file(cells[name] / "final" / "model.safetensors") for name in ("too_large", "fits"))
    for name, weight in weights.items():
        assert weight.flatten().tolist() == pytest.approx(expected[name].flatten().tolist(), abs=1e-4), name


@pytest.mark.slow
def test_a_row_that_is_too_large_for_all_gpus_is_left_out_with_the_reason(zoo, too_large, tmp_path):
    options = ["--plugin", too_large.parent / "large.py", "--output", tmp_path / "out", "--option", "gpus=one"]
    done = zoo("bench", too_large, *options, cwd=too_large.parent)
    assert done.returncode == 1, done.stdout + done.stderr
    record = read_json(tmp_path / "out" / "records" / "too_large-seed0.json")
    assert record["status"] == "failed"
    assert "CUDA out of memory" in record["error"]


def test_fewer_gpus_than_a_job_was_measured_to_need_are_refused(tmp_path):
    job = Job(kind="train", title="dpo", directory=tmp_path, identity="a", processes=2)
    with pytest.raises(SpecError, match=r"dpo was measured to need 2 GPUs, .* and there are 1 here"):
        local.Forks(["one"]).start(job)


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
