"""Losses on pairs beside TRL's own: the same value and the same gradient by every weight, on a batch of ragged rows."""

import json

import pytest
import torch
from safetensors.torch import load_file
from zoo_dpo.loss import dpo_loss, dpo_nll_loss, dpo_norm_loss, ipo_loss, robust_dpo_loss
from zoo_kto.loss import kto_loss, reference_point
from zoo_kto.train import mismatched
from zoo_orpo.loss import odds_ratio_loss
from zoo_reward_model.loss import bradley_terry_loss, centering_penalty
from zoo_sft.loss import sft_loss
from zoo_simpo.loss import cpo_loss, simpo_loss

from zoo_core.functional import masked_row_mean, masked_sum
from zoo_core.models.copies import scorer_from
from zoo_core.models.scorer import row_scores
from zoo_core.rollout import Responses, response_logprobs
from zoo_core.testing.families import random_model

LENGTHS = [((3, 4), (3, 2)), ((5, 1), (5, 6)), ((2, 7), (2, 3))]
"""Tokens of prompt and response, of the chosen and of the rejected row of each pair."""


def rows():
    """Return rows of random tokens; the pad token, 0, is among none."""
    generator = torch.Generator().manual_seed(0)

    def tokens(count):
        return torch.randint(3, 30, (count,), generator=generator).tolist()

    found = {"chosen": [], "rejected": []}
    for (prompt, good), (_, bad) in LENGTHS:
        said = tokens(prompt)
        found["chosen"].append((said, tokens(good)))
        found["rejected"].append((said, tokens(bad)))
    return found


def model_for(name, seed):
    """Return the model that an algorithm trains, or holds beside it."""
    policy = random_model(seed)
    return scorer_from(policy, seed) if OURS[name][0] == "reward" else policy


def both(policy, reference, batch):
    """Return summed log-ratios of chosen and rejected rows."""
    with torch.no_grad():
        held = response_logprobs(reference, batch)
    return masked_sum(response_logprobs(policy, batch) - held, batch.mask).chunk(2)


def ipo(policy, reference, batch):
    chosen, rejected = both(policy, reference, batch)
    long, short = batch.mask.sum(1).chunk(2)
    return ipo_loss(chosen / long, rejected / short, 0.3)


def dpo_nll(policy, reference, batch):
    logprobs, _ = masked_sum(response_logprobs(policy, batch), batch.mask).chunk(2)
    return dpo_nll_loss(*both(policy, reference, batch), logprobs, batch.mask.sum(1).chunk(2)[0], 0.3, 0.5)


def dpo_norm(policy, reference, batch):
    return dpo_norm_loss(*both(policy, reference, batch), *batch.mask.sum(1).chunk(2), 5.0)


def kto(policy, reference, batch):
    mixed = mismatched(batch, 0)
    point = reference_point(torch.cat(both(policy, reference, mixed)))
    ratios = torch.cat(both(policy, reference, batch))
    return kto_loss(ratios, torch.arange(len(batch)) < len(batch) // 2, point, 0.3, 1.0, 0.8)


def simpo(policy, _, batch):
    return simpo_loss(*masked_row_mean(response_logprobs(policy, batch), batch.mask).chunk(2), 2.0, 0.7)


def cpo(policy, _, batch):
    logprobs = response_logprobs(policy, batch)
    chosen, rejected = masked_sum(logprobs, batch.mask).chunk(2)
    return cpo_loss(chosen, rejected, 0.3) + 0.5 * sft_loss(logprobs.chunk(2)[0], batch.mask.chunk(2)[0])


def orpo(policy, _, batch):
    return odds_ratio_loss(*masked_row_mean(response_logprobs(policy, batch), batch.mask).chunk(2))


def sft(policy, _, batch):
    return sft_loss(response_logprobs(policy, batch).chunk(2)[0], batch.mask.chunk(2)[0])


def reward_model(scorer, _, batch):
    return bradley_terry_loss(*row_scores(scorer, batch.rows).chunk(2))


def centred_reward_model(scorer, _, batch):
    chosen, rejected = row_scores(scorer, batch.rows).chunk(2)
    return bradley_terry_loss(chosen, rejected) + 0.3 * centering_penalty(chosen, rejected)


OURS = {
    "dpo": ("dpo", {"loss_types": ["sigmoid"], "beta": 0.3}, lambda *on: dpo_loss(*both(*on), 0.3)),
    "robust-dpo": (
        "dpo",
        {"loss_types": ["robust"], "beta": 0.3, "label_smoothing": 0.2},
        lambda *on: robust_dpo_loss(*both(*on), 0.3, 0.2),
    ),
    "ipo": ("dpo", {"loss_types": ["ipo"], "beta": 0.3}, ipo),
    "dpo-nll": ("dpo", {"loss_types": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5], "beta": 0.3}, dpo_nll),
    "dpo-norm": ("dpo", {"loss_types": ["sigmoid_norm"], "beta": 5.0}, dpo_norm),
    "kto": ("kto", {"beta": 0.3, "undesirable_weight": 0.8}, kto),
    "simpo": ("cpo", {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 0.7}, simpo),
    "cpo": ("cpo", {"loss_type": "sigmoid", "beta": 0.3, "cpo_alpha": 0.5}, cpo),
    "orpo": ("orpo", {"beta": 1.0}, orpo),
    "sft": ("sft", {}, sft),
    "reward-model": ("reward", {"center_rewards_coefficient": None}, reward_model),
    "reward-model, centred": ("reward", {"center_rewards_coefficient": 0.3}, centred_reward_model),
}
"""By algorithm: whose loss it is in TRL, with which settings, and ours."""
CASES = [(name, dtype) for name in OURS for dtype in ("float32", "float64")]
FLOAT32_THERE = {"orpo", "sft"}
"""TRL computes odds, and transformers the loss of SFT, in float32 whatever the model is in."""


@pytest.fixture(scope="module")
def theirs(run_trl, tmp_path_factory):
    """Return the folder of TRL's gradients, and its losses."""
    folder = tmp_path_factory.mktemp("parity")
    for seed, name in enumerate(("policy", "reference")):
        random_model(seed).double().save_pretrained(folder / name)
    model_for("reward-model", 0).double().save_pretrained(folder / "scorer")
    (folder / "rows.json").write_text(json.dumps(rows()))
    cases = [{"trainer": OURS[name][0], "dtype": dtype, "settings": OURS[name][1]} for name, dtype in CASES]
    (folder / "cases.json").write_text(json.dumps(cases))
    return folder, run_trl("1.16", "pair_losses.py", folder)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_the_loss_and_every_gradient_are_those_of_trl(name, dtype, theirs):
    folder, losses = theirs
    number = CASES.index((name, dtype))
    policy, reference = (model_for(name, seed).to(getattr(torch, dtype)) for seed in (0, 1))
    made = rows()
    batch = Responses.of([*made["chosen"], *made["rejected"]], 0, policy.device)
    loss = OURS[name][2](policy, reference.requires_grad_(False), batch)
    loss.backward()
    exact = dtype == "float64" and name not in FLOAT32_THERE
    near = 1e-9 if exact else 1e-5
    assert loss.item() == pytest.approx(losses[number], rel=near)
    gradients = load_file(folder / f"gradient-{number}.safetensors")
    assert len(gradients) > 10
    for weight, gradient in gradients.items():
        own = policy.get_parameter(weight).grad
        torch.testing.assert_close(own, gradient, rtol=near, atol=near * max(1e-2, gradient.abs().max().item()))
