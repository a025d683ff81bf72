"""Losses on given log-probabilities beside TRL's own, in double precision: GRPO and its relatives.

`make parity` builds the environment that TRL runs in.
"""

import json

import pytest
import torch
from torch.testing import assert_close
from zoo_grpo.loss import (
    capped_reinforce,
    clip_higher_surrogate,
    clipped_surrogate,
    dapo,
    dr_grpo,
    grpo,
    gspo_loss,
    kl_penalty,
    sequence_ratio,
    unbiased_kl_penalty,
)

from zoo_core.testing.tensors import noise, prefix

OLD, REFERENCE, ADVANTAGES = (noise(*shape, seed=n).double() for n, shape in enumerate([(6, 5), (6, 5), (6,)]))
MASK, BETA, CLIP_RANGE, TOKENS = prefix(5, 4, 3, 2, 1, 5, of=5), 0.3, 0.2, 7
"""TOKENS is the most that a response can have; none here has so many."""


def clipped(logprobs):
    return clipped_surrogate(logprobs, OLD, ADVANTAGES, MASK, CLIP_RANGE)


def raised(logprobs):
    return clip_higher_surrogate(logprobs, OLD, ADVANTAGES, MASK, CLIP_RANGE, 0.28)


OURS = {
    "grpo with k3": (
        {"loss_type": "grpo", "beta": BETA, "use_bias_correction_kl": False},
        lambda x: grpo(clipped(x) + BETA * kl_penalty(x, OLD, REFERENCE, MASK), MASK, TOKENS),
    ),
    "grpo with the unbiased estimate": (
        {"loss_type": "grpo", "beta": BETA, "use_bias_correction_kl": True},
        lambda x: grpo(clipped(x) + BETA * unbiased_kl_penalty(x, OLD, REFERENCE, MASK), MASK, TOKENS),
    ),
    "dr-grpo": ({"loss_type": "dr_grpo"}, lambda x: dr_grpo(clipped(x), MASK, TOKENS)),
    "dapo": ({"loss_type": "dapo", "epsilon_high": 0.28}, lambda x: dapo(raised(x), MASK, TOKENS)),
    "gspo": (
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.03, "epsilon_high": 0.04},
        lambda x: gspo_loss(sequence_ratio(x, OLD, MASK), ADVANTAGES, 0.03, 0.04),
    ),
    "cispo": (
        {"loss_type": "cispo", "epsilon_high": 1.2},
        lambda x: dapo(capped_reinforce(x, OLD, ADVANTAGES, MASK, 1.2), MASK, TOKENS),
    ),
}
"""By algorithm: settings of TRL, and our loss of log-probabilities."""
CASES = [(name, moved) for name in OURS for moved in (0.0, 0.5)]
"""Where the responses were sampled, and after steps."""
SHARED = [("dapo", {"steps_per_generation": 2}, 100), ("gspo", {"loss_type": "dapo"}, 20)]
"""Departures: a batch of two minibatches and 100 tokens; what TRL does with GSPO unless `loss_type` says otherwise."""


def numbers(moved, settings, batch_tokens):
    """Return what TRL is given."""
    tensors = {
        "logprobs": OLD + moved * noise(6, 5, seed=3),
        "old_logprobs": OLD,
        "reference_logprobs": REFERENCE,
        "advantages": ADVANTAGES,
        "mask": MASK,
    }
    lists = {name: tensor.tolist() for name, tensor in tensors.items()}
    same = {"beta": 0.0, "epsilon": CLIP_RANGE, "max_completion_length": TOKENS}
    return {**lists, "batch_tokens": batch_tokens, "settings": {**same, **settings}}


@pytest.fixture(scope="module")
def theirs(run_trl, tmp_path_factory):
    """Loss and gradient of TRL, of every case."""
    folder = tmp_path_factory.mktemp("parity")
    given = [numbers(moved, OURS[name][0], int(MASK.sum())) for name, moved in CASES]
    given += [numbers(0.5, {**OURS[name][0], **more}, tokens) for name, more, tokens in SHARED]
    (folder / "numbers.json").write_text(json.dumps(given))
    found = run_trl("1.16", "grpo_loss.py", folder)
    return [tuple(torch.tensor(one[name], dtype=torch.double) for name in ("loss", "gradient")) for one in found]


def with_gradient(loss_of, moved):
    """Return our loss and its gradient by the log-probabilities."""
    logprobs = (OLD + moved * noise(6, 5, seed=3)).requires_grad_()
    loss = loss_of(logprobs)
    (gradient,) = torch.autograd.grad(loss, logprobs)
    return loss.detach(), gradient


@pytest.mark.slow
@pytest.mark.parametrize(("name", "moved"), CASES)
def test_grpo_and_its_relatives_have_the_loss_and_gradient_of_trl(name, moved, theirs):
    own = with_gradient(OURS[name][1], moved)
    assert own[1].abs().max() > 1e-2
    assert_close(own, theirs[CASES.index((name, moved))], atol=1e-12, rtol=0)


@pytest.mark.slow
def test_trl_divides_dapo_by_the_tokens_of_a_mean_minibatch_and_this_by_those_of_its_own(theirs):
    own = with_gradient(OURS["dapo"][1], 0.5)
    factor = MASK.sum().item() / (100 / 2)
    assert_close(tuple(factor * one for one in own), theirs[-2], atol=1e-12, rtol=0)


@pytest.mark.slow
def test_trl_weighs_the_responses_of_gspo_by_their_length_unless_its_loss_type_is_grpo(theirs):
    def weighed(logprobs):
        losses = [
            length * gspo_loss(sequence_ratio(*rows), advantage, 0.03, 0.04)
            for length, advantage, *rows in zip(
                MASK.sum(1), ADVANTAGES.split(1), logprobs.split(1), OLD.split(1), MASK.split(1), strict=True
            )
        ]
        return torch.stack(losses).sum() / MASK.sum()

    assert_close(with_gradient(weighed, 0.5), theirs[-1], atol=1e-12, rtol=0)
