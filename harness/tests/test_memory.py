"""What happens when memory runs out in a training."""

from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from zoo_harness.job import Job, of_file
from zoo_harness.jobs import measure, train
from zoo_harness.payloads import Training
from zoo_harness.prepare import make_plan
from zoo_harness.spec.read import read

from zoo_core import rollout
from zoo_core.compute.micro_batches import save_memory

HAS = 150
"""Tokens that one pass may have, where memory is short."""


@pytest.fixture(scope="module")
def job(world, tmp_path_factory) -> Job:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        changes = {"algorithms": [{"name": "sft", "batch_size": 16}], "references": False, "checkpoint_seconds": 0}
        plan = make_plan(read(world / "spec.yaml", None, changes), tmp_path_factory.mktemp("bench"))
        return next(job for job in plan.jobs(scored=False) if job.kind == "train" and job.row == "sft")


def trained(job: Job, folder: Any) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    folder.mkdir()
    result = train.run(job.model_copy(update={"directory": folder}))
    return dict(result), load_file(folder / "final" / "model.safetensors")


@pytest.fixture
def short(monkeypatch):
    """After 30 passes, one of more than `HAS` tokens finds no memory; return the sizes of those that were too large."""
    compute, passes, refused = rollout._response_logprobs, [], []

    def limited(policy, responses, temperature):
        passes.append(sum(len(prompt) + len(response) for prompt, response in responses.rows))
        if len(passes) > 30 and passes[-1] > HAS and torch.is_grad_enabled():
            refused.append(passes[-1])
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return compute(policy, responses, temperature)

    monkeypatch.setattr(rollout, "_response_logprobs", limited)
    yield refused
    save_memory()


def test_a_training_goes_on_from_its_checkpoint_in_smaller_micro_batches(job, tmp_path, short, monkeypatch):
    halved, weights = trained(job, tmp_path / "short")
    monkeypatch.undo()
    save_memory()
    whole, expected = trained(job, tmp_path / "whole")
    flags = [flag for flag in halved["ledger"]["flags"] if flag.startswith("memory ran out")]
    assert len(flags) == len(short) >= 1
    assert flags[-1].endswith("from the last checkpoint on")
    assert not [flag for flag in whole["ledger"]["flags"] if "memory" in flag]
    assert halved["ledger"]["flops_by_role_phase"]["policy/recompute"] > 0
    # What is computed again is charged: fewer updates fit. Those that were made are the same.
    assert 30 < halved["ledger"]["updates"] < whole["ledger"]["updates"]
    assert weights.keys() == expected.keys()


def test_a_training_that_does_not_fit_row_by_row_fails_with_the_error_and_is_not_the_plugin_s_fault(
    job, tmp_path, monkeypatch
):
    def nothing(*_: Any) -> None:
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried"
        )

    monkeypatch.setattr(rollout, "_response_logprobs", nothing)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        trained(job, tmp_path / "none")
    save_memory()


def test_a_measurement_goes_on_in_smaller_micro_batches_too(job, tmp_path, monkeypatch):
    """Else a row that could be trained so would be left out before it was tried."""
    measuring = of_file(Training.of(job.payload).output / "probe" / "rows" / "sft" / "job.json")
    whole = measure.run(measuring)["cost"]
    compute = rollout._response_logprobs

    def limited(policy, responses, temperature):
        if sum(len(prompt) + len(response) for prompt, response in responses.rows) > HAS and torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return compute(policy, responses, temperature)

    monkeypatch.setattr(rollout, "_response_logprobs", limited)
    halved = measure.run(measuring)["cost"]
    save_memory()
    again = sum(flops for _, phase, _, flops in halved["loops"][0]["parts"] if phase == "recompute")
    assert again > 0
    assert halved["loops"][0]["flops"] == pytest.approx(whole["loops"][0]["flops"] + again)
