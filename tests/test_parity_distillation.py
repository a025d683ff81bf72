"""The loss of distillation beside TRL's own: the same value and the same gradient by every weight, on ragged rows."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close
from zoo_gkd.loss import gkd_loss
from zoo_gkd.train import divergences

from zoo_core.rollout import Responses
from zoo_core.testing.families import random_model

NEAR = {"float32": 1e-5, "float64": 1e-9}
BETAS = [0.0, 0.1, 0.5, 1.0]
# TRL does not tell GPT-2 its positions where prompts are padded on the left: they have one length.
ROWS = [([5, 9, 4], [7, 3]), ([8, 8, 6], [4, 12, 9, 21, 3]), ([3, 17, 22], [11]), ([5, 9, 4], [28, 6, 19])]


@pytest.fixture(scope="module")
def trl(run_trl, tmp_path_factory):
    """Return the folder of TRL's gradients, and its losses."""
    folder = tmp_path_factory.mktemp("gkd")
    for seed, name in enumerate(("policy", "teacher")):
        random_model(seed).double().save_pretrained(folder / name)
    (folder / "given.json").write_text(json.dumps({"rows": ROWS, "betas": BETAS, "dtypes": list(NEAR)}))
    return folder, run_trl("1.16", "gkd_loss.py", folder)


@pytest.mark.slow
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("dtype", NEAR)
def test_gkd_is_that_of_trl_in_value_and_in_every_gradient(dtype, beta, trl):
    folder, theirs = trl
    policy, teacher = (random_model(seed).to(getattr(torch, dtype)) for seed in (0, 1))
    batch = Responses.of(ROWS, 0, policy.device)
    loss = gkd_loss(divergences(policy, teacher, batch, beta), batch.mask)
    loss.backward()
    near = NEAR[dtype]
    assert loss.item() == pytest.approx(theirs[dtype][str(beta)], rel=near)
    gradients = load_file(folder / f"gradient-{dtype}-{beta}.safetensors")
    assert len(gradients) > 10
    for name, gradient in gradients.items():
        own = policy.get_parameter(name).grad
        assert_close(own, gradient, rtol=near, atol=near * max(1e-2, gradient.abs().max().item()))
