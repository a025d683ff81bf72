"""Losses beside TRL's own, in double precision. `make parity` builds the environment that TRL runs in."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close
from zoo_grpo.loss import clipped_surrogate, grpo, kl_penalty, unbiased_kl_penalty

from zoo_core.testing.tensors import noise, prefix

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".parity" / "trl-1.16" / "bin" / "python"
OLD, REFERENCE, ADVANTAGES = (noise(*shape, seed=n).double() for n, shape in enumerate([(6, 5), (6, 5), (6,)]))
MASK, BETA, CLIP_RANGE = prefix(5, 4, 3, 2, 1, 5, of=5), 0.3, 0.2
CASES = [(divergence_of, moved) for divergence_of in (kl_penalty, unbiased_kl_penalty) for moved in (0.0, 0.5)]
"""Either estimate of the divergence, where the responses were sampled and after steps."""


def case(divergence_of, moved):
    """Return what TRL is given."""
    tensors = {
        "logprobs": OLD + moved * noise(6, 5, seed=3),
        "old_logprobs": OLD,
        "reference_logprobs": REFERENCE,
        "advantages": ADVANTAGES,
        "mask": MASK,
    }
    numbers = {name: tensor.tolist() for name, tensor in tensors.items()}
    return {**numbers, "beta": BETA, "clip_range": CLIP_RANGE, "unbiased": divergence_of is unbiased_kl_penalty}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """Loss and gradient of TRL, of every case."""
    if not PYTHON.exists():
        pytest.skip(f"{PYTHON} is not there; `make parity` builds it")
    folder = tmp_path_factory.mktemp("parity")
    (folder / "numbers.json").write_text(json.dumps([case(*one) for one in CASES]))
    done = subprocess.run(
        [PYTHON, ROOT / "tests" / "parity" / "grpo_loss.py", folder / "numbers.json"],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "HF_HOME": str(folder)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(CASES)))
def test_grpo_with_either_estimate_of_the_divergence_has_the_loss_and_gradient_of_trl(number, theirs):
    divergence_of, moved = CASES[number]
    logprobs = (OLD + moved * noise(6, 5, seed=3)).requires_grad_()
    losses = clipped_surrogate(logprobs, OLD, ADVANTAGES, MASK, CLIP_RANGE)
    loss = grpo(losses + BETA * divergence_of(logprobs, OLD, REFERENCE, MASK), MASK, response_tokens=5)
    (gradient,) = torch.autograd.grad(loss, logprobs)
    expected = (torch.tensor(theirs[number][name], dtype=torch.double) for name in ("loss", "gradient"))
    assert_close((loss.detach(), gradient), tuple(expected), atol=1e-12, rtol=0)
