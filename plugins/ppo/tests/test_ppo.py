"""PPO passes the suite, climbs a reward, and finds the optimum of a problem solved by hand."""

import math

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from zoo_ppo.config import PPOConfig
from zoo_ppo.train import explained_variance, train

from zoo_core.data import Prompt
from zoo_core.run import Run
from zoo_core.testing import AlgorithmSuite, tiny_encoder, tiny_policy, tiny_session

PROMPT = [{"role": "user", "content": "hi"}]
ARMS = {"a": 0.0, "b": 0.5, "c": 1.0, "d": 0.25}
"""Four answers of one letter and their rewards."""
PROMPTS = {"prompts": [Prompt([{"role": "user", "content": text}], text) for text in ("a", "bcd", "ee", "dcba")]}
TOKENS = tiny_encoder().tokenizer.convert_tokens_to_ids(list(ARMS))


class TestPPO(AlgorithmSuite):
    name = "ppo"
    settings = {"batch_size": 8, "minibatch_size": 4, "epochs": 1}


class Bandit(LlamaForCausalLM):
    """A tiny Llama that can say nothing but one arm, and then has to end."""

    def forward(self, input_ids, **settings):
        out = super().forward(input_ids=input_ids, **settings)
        arms = torch.tensor(TOKENS)
        said = torch.isin(input_ids[:, -out.logits.shape[1] :], arms).unsqueeze(-1)
        word = torch.arange(out.logits.shape[-1])
        allowed = torch.where(said, word == self.config.eos_token_id, torch.isin(word, arms))
        out.logits = out.logits.masked_fill(~allowed, -1e9)
        return out


def bandit():
    """Return a tiny bandit; the same every time. Its head is wide enough to say anything even while it is frozen."""
    torch.manual_seed(0)
    config = tiny_policy(hidden_size=16, initializer_range=0.2).config.to_dict()
    return Bandit(LlamaConfig(**{**config, "attn_implementation": "sdpa"}))


def five_letters():
    """Return a policy that knows the letters a to e only, so that it ends and says a now and then from the start."""
    return tiny_policy(vocab_size=12)


def trained(updates, config, make=five_letters, **settings):
    """Train for about so many updates; return the session and the metrics."""
    settings = {"rows": PROMPTS, **settings}
    first = tiny_session(["prompts", "reward"], policy=make(), **settings)
    next(train(config, Run(first)))
    session = tiny_session(["prompts", "reward"], policy=make(), budget=float(updates * first.ledger.flops), **settings)
    return session, list(train(config, Run(session)))


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_before_the_first_step_the_policy_is_where_it_sampled(temperature):
    _, history = trained(1.05, PPOConfig(batch_size=16, minibatch_size=16, epochs=1, temperature=temperature))
    assert history[0]["clip_fraction"] == 0.0
    assert history[0]["approximate_kl"] < 1e-10
    assert history[0]["kl"] == pytest.approx(0.0, abs=1e-5)


def test_explained_variance_is_one_for_a_seer_zero_for_the_mean_and_zero_where_nothing_varies():
    slots = torch.tensor([[True, True, True, False], [True, False, False, False]])
    returns = torch.tensor([[1.0, 2.0, 3.0, 99.0], [6.0, 99.0, 99.0, 99.0]])  # mean 3, variance (4 + 1 + 0 + 9)/4 = 3.5
    assert explained_variance(returns, returns, slots) == 1.0
    assert explained_variance(torch.full((2, 4), 3.0), returns, slots) == 0.0
    # Values of 2 are off by 1, 0, 1 and 4: 1 − (18/4)/3.5 = −2/7.
    assert explained_variance(torch.full((2, 4), 2.0), returns, slots).item() == pytest.approx(-2 / 7)
    assert explained_variance(torch.zeros(2, 4), torch.ones(2, 4), slots) == 0.0


def test_the_score_climbs():
    _, history = trained(25, PPOConfig(batch_size=32, minibatch_size=16, learning_rate=1e-2, kl_coefficient=0.0))
    assert history[0]["score"] < 0.0
    assert sum(metrics["score"] for metrics in history[-5:]) / 5 > 0.7


def test_the_more_divergence_costs_the_less_there_is():
    def divergence(beta):
        config = PPOConfig(batch_size=32, minibatch_size=16, learning_rate=1e-2, kl_coefficient=beta)
        _, history = trained(12, config)
        return sum(metrics["kl"] for metrics in history[-4:]) / 4

    cheap, dear = divergence(0.01), divergence(1.0)
    assert cheap > 1.0
    assert dear < 0.5 * cheap


def test_the_coefficient_is_steered_by_the_kl_of_each_update():
    config = PPOConfig(batch_size=8, minibatch_size=8, learning_rate=1e-2, epochs=2, kl_target=0.05, kl_horizon=80.0)
    session, history = trained(5.5, config)
    # β (1 + e/10) for 8 responses in 80, with e = KL/.05 − 1 clipped to a fifth: up or down by at most a fiftieth.
    expected, errors = config.kl_coefficient, [min(max(metrics["kl"] / 0.05 - 1, -0.2), 0.2) for metrics in history]
    for error in errors[: session.ledger.updates]:
        expected *= 1 + error / 10
    assert errors[0] == -0.2  # at first policy and reference are one
    assert max(errors) == 0.2
    assert session.kept["beta"]["now"] == pytest.approx(expected)


def test_the_critic_learns_what_there_is_to_come():
    # Every answer is worth 2 at its end and nothing is paid before: so is every state on the way.
    encoder = tiny_encoder(response_tokens=2)
    config = PPOConfig(
        batch_size=16, minibatch_size=16, learning_rate=1e-2, kl_coefficient=0.0, gae_lambda=1.0, value_clip_range=1e9
    )
    settings = {"encoder": encoder, "reward": lambda samples: [2.0 for _ in samples]}
    session, history = trained(40, config, bandit, **settings)
    with torch.no_grad():
        values = session.kept["critic"](encoder.responses([("bcd", "a"), ("e", "c")]))
    assert history[0]["value_loss"] == pytest.approx(2.0, abs=1e-3)  # ½ (0 − 2)²
    assert values.flatten().tolist() == pytest.approx([2.0] * 6, abs=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("models", ["separate", "hydra", "lora"])
def test_in_a_bandit_it_ends_at_the_reference_tilted_by_the_reward(models):
    # The best policy of E[r] − β KL(π‖π_ref) is π ∝ π_ref exp(r/β) (Ziegler et al. 2019; Rafailov et al. 2023, eq. 4).
    beta, encoder = 0.5, tiny_encoder(response_tokens=2)

    def probabilities(policy):
        prompts = encoder.prompts([PROMPT])
        with torch.no_grad():
            logits = policy(input_ids=prompts.tokens).logits[0, -1]
        return logits.softmax(0)[TOKENS]

    settings = {"learning_rate": 1e-2, "kl_coefficient": beta, "gae_lambda": 1.0, "value_clip_range": 1e9}
    config = PPOConfig(batch_size=32, minibatch_size=16, models=models, **settings)
    settings = {
        "rows": {"prompts": [Prompt(PROMPT, "row 0")]},
        "encoder": encoder,
        "reward": lambda samples: [ARMS[sample.response] for sample in samples],
    }
    start = probabilities(bandit())
    session, history = trained(45, config, bandit, **settings)
    optimum = start * torch.tensor([math.exp(reward / beta) for reward in ARMS.values()])
    optimum /= optimum.sum()
    assert all(metrics["ended"] == 1.0 for metrics in history)
    assert 0.5 * (start - optimum).abs().sum() > 0.2
    assert 0.5 * (probabilities(session.policy) - optimum).abs().sum() < 0.05
