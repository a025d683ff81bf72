"""Losses on responses that a policy has sampled beside TRL's own, with every gradient: RLOO and PPO."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close
from zoo_ppo.loss import clipped_policy_loss, clipped_value_loss, gae, slot_mask, token_rewards
from zoo_rloo.loss import leave_one_out_advantages, regularised_rewards, rloo_loss

from zoo_core.functional import clip_fraction, masked_whiten, penalised_scores
from zoo_core.models.copies import scorer_from
from zoo_core.rollout import Responses, response_logprobs, response_states
from zoo_core.testing.families import random_model
from zoo_core.testing.tensors import noise

NEAR = {"float32": 1e-5, "float64": 1e-9}
GROUP_SIZE, BETA, END = 3, 0.3, 2


def rows(prompts, responses):
    """Return rows of random tokens, with prompts and responses of these lengths; the pad token, 0, is among none."""
    generator = torch.Generator().manual_seed(0)

    def tokens(count):
        return torch.randint(3, 30, (count,), generator=generator).tolist()

    return [(tokens(prompt), tokens(response)) for prompt, response in zip(prompts, responses, strict=True)]


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
def rloo_of_trl(run_trl, tmp_path_factory):
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


PPO_ROWS = rows([3, 5, 2, 4], [4, 1, 6, 3])
for _, response in PPO_ROWS[:3]:
    response[-1] = END
PPO_SCORES, PENALTY, STEP_SIZE, VALUE_COEFFICIENT = noise(4, seed=6).double(), 0.7, 0.2, 0.4
VALUE_CLIP_RANGE = 0.02  # so small that the step exceeds it
SAME = {
    "kl_coef": BETA,
    "vf_coef": VALUE_COEFFICIENT,
    "missing_eos_penalty": PENALTY,
    "cliprange_value": VALUE_CLIP_RANGE,
}
PPO_CASES = [(0.9, 0.8, True), (0.0, 0.0, True), (0.9, 0.8, False)]
"""Discount and λ (with a discount of 0 returns are rewards), and whether TRL whitens by the population's variance."""


class ScoredStates(torch.nn.Module):
    """The critic of TRL: the body and the head of a sequence classifier, read in every slot."""

    def __init__(self, scorer):
        super().__init__()
        self.critic = scorer

    def forward(self, batch):
        return response_states(self.critic.base_model, batch, self.critic.score).squeeze(-1)


@pytest.fixture(scope="module")
def ppo_of_trl(run_trl, tmp_path_factory):
    """Return the folder of TRL's gradients, and its advantages and losses."""
    folder = tmp_path_factory.mktemp("ppo")
    for seed, name in enumerate(("policy", "reference")):
        random_model(seed).double().save_pretrained(folder / name)
    scorer_from(random_model(2), 2).double().save_pretrained(folder / "scorer")
    cases = [{"gamma": discount, "lam": lam, "population": whole, **SAME} for discount, lam, whole in PPO_CASES]
    given = {"rows": PPO_ROWS, "scores": PPO_SCORES.tolist(), "end": END, "step_size": STEP_SIZE, "cases": cases}
    (folder / "given.json").write_text(json.dumps(given))
    return folder, run_trl("1.12", "ppo_loss.py", folder)


def ppo_epochs(discount, lam):
    """Yield advantages, loss, the share of clipped tokens and the models with gradients, of each of two epochs."""
    policy, reference = (random_model(seed).double() for seed in (0, 1))
    critic = ScoredStates(scorer_from(random_model(2), 2).double())
    batch = Responses.of(PPO_ROWS, 0, policy.device)
    mask, slots = batch.mask, slot_mask(batch.mask)
    scores = penalised_scores(PPO_SCORES, torch.tensor([True, True, True, False]), PENALTY)
    with torch.no_grad():
        old, values = response_logprobs(policy, batch), critic(batch)
        log_ratio = old - response_logprobs(reference, batch)
    advantages = gae(token_rewards(scores, log_ratio, mask, BETA), values, slots, discount, lam)
    returns, whitened = advantages + values, masked_whiten(advantages[:, :-1], mask)
    for _ in range(2):
        logprobs = response_logprobs(policy, batch)
        loss = clipped_policy_loss(logprobs, old, whitened, mask, 0.2)
        loss = loss + VALUE_COEFFICIENT * clipped_value_loss(critic(batch), values, returns, slots, VALUE_CLIP_RANGE)
        loss.backward()
        yield advantages[:, :-1] * mask, loss.item(), clip_fraction(logprobs, old, mask, 0.2).item(), policy, critic
        with torch.no_grad():
            for weight in [*policy.parameters(), *critic.parameters()]:
                if weight.grad is not None:
                    weight -= STEP_SIZE * weight.grad
                    weight.grad = None


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_ppo_has_the_advantages_losses_and_every_gradient_of_trl_before_and_after_a_step(number, ppo_of_trl):
    folder, theirs = ppo_of_trl
    for epoch, (advantages, loss, clipped, policy, critic) in enumerate(ppo_epochs(*PPO_CASES[number][:2])):
        expected = torch.tensor(theirs[number]["advantages"], dtype=torch.double)
        assert_close(advantages, expected[:, :-1], rtol=1e-9, atol=1e-9)
        assert loss == pytest.approx(theirs[number]["losses"][epoch], rel=1e-9)
        assert (clipped > 0) == (epoch > 0)
        gradients = load_file(folder / f"gradient-{number}-{epoch}.safetensors")
        of_policy = {name.removeprefix("policy."): one for name, one in gradients.items() if name.startswith("policy.")}
        assert_same_gradients(policy, of_policy, 1e-9)
        assert_same_gradients(
            critic, {name: one for name, one in gradients.items() if name.startswith("critic.")}, 1e-9
        )


@pytest.mark.slow
def test_trl_whitens_by_n_minus_1_and_so_takes_smaller_steps_of_the_policy(ppo_of_trl):
    folder, _ = ppo_of_trl
    whole, sample = (load_file(folder / f"gradient-{number}-0.safetensors") for number in (0, 2))
    tokens = sum(len(response) for _, response in PPO_ROWS)
    for name, gradient in whole.items():
        factor = ((tokens - 1) / tokens) ** 0.5 if name.startswith("policy.") else 1.0
        assert_close(sample[name], factor * gradient, rtol=1e-6, atol=1e-6)
