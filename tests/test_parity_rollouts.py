"""Losses on responses that a policy has sampled beside TRL's own, with every gradient: RLOO."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close
from zoo_rloo.loss import leave_one_out_advantages, regularised_rewards, rloo_loss

from zoo_core.rollout import Responses, response_logprobs
from zoo_core.testing.families import model_of
from zoo_core.testing.tensors import noise

ROOT = Path(__file__).parents[1]
NEAR = {"float32": 1e-5, "float64": 1e-9}
GROUP_SIZE, BETA = 3, 0.3


def rows(prompts, responses):
    """Return rows of random tokens, with prompts and responses of these lengths; the pad token, 0, is among none."""
    generator = torch.Generator().manual_seed(0)

    def tokens(count):
        return torch.randint(3, 30, (count,), generator=generator).tolist()

    return [(tokens(prompt), tokens(response)) for prompt, response in zip(prompts, responses, strict=True)]


def random_model(seed):
    """Return a small GPT-2 without dropout; norms of Llama are in float32, whatever its weights are in."""
    model = model_of("gpt2")
    torch.manual_seed(seed)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return model


def run_trl(version, script, folder):
    """Return what a script prints that runs beside TRL, of what is in a folder."""
    python = ROOT / ".parity" / f"trl-{version}" / "bin" / "python"
    if not python.exists():
        pytest.skip(f"{python} is not there; `make parity` builds it")
    done = subprocess.run(
        [python, ROOT / "tests" / "parity" / script, folder],
        capture_output=True, text=True, check=False, cwd=folder, env={**os.environ, "HF_HOME": str(folder)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def assert_same_gradients(model, gradients, near):
    """Assert that a model has these gradients, by the names of its weights."""
    assert len(gradients) > 10
    for weight, gradient in gradients.items():
        own = model.get_parameter(weight).grad
        assert_close(own, gradient, rtol=near, atol=near * max(1e-2, gradient.abs().max().item()))


# TRL pads prompts on the left and does not tell GPT-2 its positions: prompts have one length.
RLOO_ROWS = rows([4] * 6, [3, 5, 1, 6, 2, 4])
RLOO_SCORES = noise(6, seed=5).double()


@pytest.fixture(scope="module")
def rloo_of_trl(tmp_path_factory):
    """Return the folder of TRL's gradients, and its advantages and losses."""
    folder = tmp_path_factory.mktemp("rloo")
    for seed, name in enumerate(("policy", "reference")):
        random_model(seed).double().save_pretrained(folder / name)
    given = {"rows": RLOO_ROWS, "scores": RLOO_SCORES.tolist(), "group_size": GROUP_SIZE, "beta": BETA}
    (folder / "given.json").write_text(json.dumps({**given, "dtypes": list(NEAR)}))
    return folder, run_trl("1.16", "rloo_loss.py", folder)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", NEAR)
def test_rloo_has_the_advantages_of_trl_and_where_it_sampled_every_gradient(dtype, rloo_of_trl):
    folder, theirs = rloo_of_trl
    policy, reference = (random_model(seed).to(getattr(torch, dtype)) for seed in (0, 1))
    batch = Responses.of(RLOO_ROWS, 0, policy.device)
    logprobs = response_logprobs(policy, batch)
    with torch.no_grad():
        log_ratio = logprobs - response_logprobs(reference, batch)
    rewards = regularised_rewards(RLOO_SCORES.to(logprobs.dtype), log_ratio, batch.mask, BETA)
    advantages = leave_one_out_advantages(rewards, GROUP_SIZE)
    rloo_loss(logprobs, advantages, batch.mask).backward()

    expected = torch.tensor(theirs[dtype]["advantages"], dtype=torch.double)
    assert_close(advantages.double(), expected, rtol=NEAR[dtype], atol=NEAR[dtype])
    # Of a ratio of 1 the loss is the mean advantage, which is 0; ours is weighed by log-probabilities.
    assert theirs[dtype]["loss"] == pytest.approx(0.0, abs=NEAR[dtype])
    assert_same_gradients(policy, load_file(folder / f"gradient-{dtype}.safetensors"), NEAR[dtype])
