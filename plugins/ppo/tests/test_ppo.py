"""PPO passes the suite, climbs a reward, and finds the optimum of a problem solved by hand."""

import math

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from zoo_ppo.config import PPOConfig
from zoo_ppo.train import train

from zoo_core.data import Prompt
from zoo_core.run import Run
from zoo_core.testing import AlgorithmSuite, tiny_encoder, tiny_policy, tiny_session

PROMPT = [{"role": "user", "content": "hi"}]
ARMS = {"a": 0.0, "b": 0.5, "c": 1.0, "d": 0.25}
"""Four answers of one letter and their rewards."""
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


def trained(updates, config, make=tiny_policy, **settings):
    """Train for about so many updates; return the session and the metrics."""
    first = tiny_session(["prompts", "reward"], policy=make(), **settings)
    next(train(config, Run(first)))
    session = tiny_session(["prompts", "reward"], policy=make(), budget=float(updates * first.ledger.flops), **settings)
    return session, list(train(config, Run(session)))


def test_before_the_first_step_the_policy_is_where_it_sampled():
    _, history = trained(1.05, PPOConfig(batch_size=16, minibatch_size=16, epochs=1))
    assert history[0]["clip_fraction"] == 0.0
    assert history[0]["approximate_kl"] < 1e-10
    assert history[0]["kl"] == pytest.approx(0.0, abs=1e-5)


@pytest.mark.slow
def test_the_score_climbs():
    config = PPOConfig(batch_size=16, minibatch_size=8, learning_rate=3e-3, kl_coefficient=0.0, missing_eos_score=0.0)
    _, history = trained(40, config)
    assert history[0]["score"] < 0.2
    assert history[-1]["score"] > 0.7


def test_the_more_divergence_costs_the_less_there_is():
    def divergence(beta):
        config = PPOConfig(
            batch_size=16, minibatch_size=16, learning_rate=3e-3, kl_coefficient=beta, missing_eos_score=0.0
        )
        _, history = trained(12, config, reward=lambda samples: [5.0 * s.response.count("a") for s in samples])
        return sum(metrics["kl"] for metrics in history[-3:]) / 3

    cheap, dear = divergence(0.01), divergence(20.0)
    assert cheap > 0.5
    assert dear < 0.25 * cheap


@pytest.mark.parametrize(("target", "direction"), [(1e-9, 1), (1e9, -1)])
def test_the_coefficient_rises_when_kl_is_above_its_target_and_falls_below(target, direction):
    config = PPOConfig(batch_size=8, minibatch_size=8, epochs=1, learning_rate=1e-2, kl_target=target, kl_horizon=80.0)
    session, history = trained(4, config)
    # Each step is clipped to a fifth of 8 responses in 80: β (1 ± .02); in the first update policy = reference, KL = 0.
    assert len(history) >= 3
    assert (session.kept["beta"]["now"] - config.kl_coefficient) * direction > 0


@pytest.mark.slow
def test_in_a_bandit_it_ends_at_the_reference_tilted_by_the_reward():
    # The best policy of E[r] − β KL(π‖π_ref) is π ∝ π_ref exp(r/β) (Ziegler et al. 2019; Rafailov et al. 2023, eq. 4).
    beta, encoder = 0.5, tiny_encoder(response_tokens=2)

    def make():
        return Bandit(LlamaConfig(**{**tiny_policy(hidden_size=16).config.to_dict(), "attn_implementation": "sdpa"}))

    def probabilities(policy):
        prompts = encoder.prompts([PROMPT])
        with torch.no_grad():
            logits = policy(input_ids=prompts.tokens).logits[0, -1]
        return logits.softmax(0)[TOKENS]

    config = PPOConfig(
        batch_size=64, minibatch_size=32, learning_rate=3e-3, kl_coefficient=beta, gae_lambda=1.0, value_clip_range=1e9
    )
    settings = {
        "rows": {"prompts": [Prompt(PROMPT, "row 0")]},
        "encoder": encoder,
        "reward": lambda samples: [ARMS[sample.response] for sample in samples],
    }
    torch.manual_seed(0)
    start = probabilities(make())
    session, history = trained(120, config, make, **settings)
    optimum = start * torch.tensor([math.exp(reward / beta) for reward in ARMS.values()])
    optimum /= optimum.sum()
    assert all(metrics["ended"] == 1.0 for metrics in history)
    assert 0.5 * (start - optimum).abs().sum() > 0.2
    assert 0.5 * (probabilities(session.policy) - optimum).abs().sum() < 0.05
