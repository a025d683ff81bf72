"""`zoo train --launch`: one training by several processes, from the command line to the model."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from safetensors.torch import load_file

pytestmark = pytest.mark.slow
TWO = shlex.join(
    [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--main_process_port=0"]
)
FULLY_SHARDED = f"{TWO.replace('--multi_gpu', '--use_fsdp')} --fsdp_version 2"

BREAKS = """
import os

def later(samples):
    if "LOCAL_RANK" in os.environ:
        raise RuntimeError("no more")
    return [float(len(sample.response)) for sample in samples]
"""
"""A reward that can be measured, and fails where several processes train."""


@pytest.fixture(scope="module")
def small(world: Path, written: dict[str, Any]) -> Path:
    """A spec of one cell that takes seconds, and one stage."""
    path = world / "launched.yaml"
    path.write_text(yaml.safe_dump({**written, "budget": 2e9, "seeds": 1, "tasks": []}))
    return path


def trained(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the cell's result says, and the weights."""
    (result,) = folder.glob("cells/*/result.json")
    return json.loads(result.read_text()), load_file(result.parent / "final" / "model.safetensors")


@pytest.fixture(scope="module")
def alone(zoo, small, tmp_path_factory) -> tuple[dict[str, Any], dict[str, Any]]:
    folder = tmp_path_factory.mktemp("alone")
    done = zoo("train", "dpo", small, "--output", folder / "out", cwd=small.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    return trained(folder / "out")


@pytest.mark.parametrize("launch", [TWO, FULLY_SHARDED], ids=["ddp", "fsdp"])
def test_a_cell_is_the_same_whoever_trains_it(zoo, small, alone, launch, tmp_path):
    done = zoo("train", "dpo", small, "--output", tmp_path / "out", "--launch", launch, cwd=small.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    (result, weights), (expected, expected_weights) = trained(tmp_path / "out"), alone
    assert "model:" in done.stdout
    for key in ("flops", "flops_by_role_phase", "updates", "optimizer_steps", "rows", "flags"):
        assert result["ledger"][key] == expected["ledger"][key], key
    assert [point["flops"] for point in result["points"]] == [point["flops"] for point in expected["points"]]
    assert result["environment"] == expected["environment"]
    assert weights.keys() == expected_weights.keys()
    for name, weight in weights.items():
        assert weight.flatten().tolist() == pytest.approx(expected_weights[name].flatten().tolist(), abs=1e-4), name
    (cell,) = (tmp_path / "out" / "cells").iterdir()
    assert (cell / "log.1.txt").exists(), "there was no second process"
    assert not list(cell.glob("*.tmp"))


def test_a_failure_of_one_process_ends_all_and_is_told_once(zoo, world, written, tmp_path):
    (world / "breaks.py").write_text(BREAKS)
    spec = world / "breaks.yaml"
    spec.write_text(yaml.safe_dump({**written, "reward": "breaks:later", "budget": 2e9, "seeds": 1, "tasks": []}))
    done = zoo("train", "ppo", spec, "--output", tmp_path / "out", "--launch", TWO, cwd=world)
    assert done.returncode == 2
    (failure,) = (tmp_path / "out").glob("cells/*/failure.json")
    assert "the reward breaks:later raised RuntimeError: no more" in json.loads(failure.read_text())["error"]
    assert "no more" in done.stderr
    job = str(failure.parent / "job.json")
    assert [process.pid for process in psutil.process_iter(["cmdline"]) if job in (process.info["cmdline"] or [])] == []


def test_a_launcher_that_is_not_there_is_named(zoo, small, tmp_path):
    done = zoo("train", "dpo", small, "--output", tmp_path / "out", "--launch", "no-such-launcher", cwd=small.parent)
    assert done.returncode == 2
    assert "--launch no-such-launcher: No such file" in done.stderr


def test_in_bf16_a_cell_learns_nearly_the_same_for_the_same_flops(zoo, small, alone, tmp_path):
    flags = ("--set", "precision=bf16", "--launch", TWO)
    done = zoo("train", "dpo", small, "--output", tmp_path / "out", *flags, cwd=small.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    (result, weights), (expected, exact) = trained(tmp_path / "out"), alone
    assert result["ledger"]["flops_by_role_phase"] == expected["ledger"]["flops_by_role_phase"]
    assert result["identity"] != expected["identity"]
    assert result["weights_sha256"] != expected["weights_sha256"]
    assert {str(weight.dtype) for weight in weights.values()} == {"torch.float32"}
    for name, weight in weights.items():
        assert weight.flatten().tolist() == pytest.approx(exact[name].flatten().tolist(), abs=0.02), name


def test_the_precision_is_the_specs_and_not_the_launchers(zoo, small, tmp_path):
    launch = f"{TWO} --mixed_precision bf16"
    done = zoo("train", "dpo", small, "--output", tmp_path / "out", "--launch", launch, cwd=small.parent)
    assert done.returncode == 2
    assert "--mixed_precision no" in done.stderr
