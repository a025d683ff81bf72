"""RLOO passes the suite, climbs a reward, and finds the optimum of a problem solved by hand."""

import math

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from zoo_rloo.config import RLOOConfig
from zoo_rloo.train import train

from zoo_core.data import Prompt
from zoo_core.run import Run
from zoo_core.testing import AlgorithmSuite, tiny_encoder, tiny_policy, tiny_session

PROMPT = [{"role": "user", "content": "hi"}]
ARMS = {"a": 0.0, "b": 0.5, "c": 1.0, "d": 0.25}
"""Four answers of one letter and their rewards."""
PROMPTS = {"prompts": [Prompt([{"role": "user", "content": text}], text) for text in ("a", "bcd", "ee", "dcba")]}
TOKENS = tiny_encoder().tokenizer.convert_tokens_to_ids(list(ARMS))


class TestRLOO(AlgorithmSuite):
    name = "rloo"
    settings = {"batch_size": 8}


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
    """Return a tiny bandit; the same one every time."""
    torch.manual_seed(0)
    return Bandit(LlamaConfig(**{**tiny_policy(hidden_size=16).config.to_dict(), "attn_implementation": "sdpa"}))


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
def test_before_the_first_step_the_policy_is_its_reference(temperature):
    _, history = trained(1.05, RLOOConfig(batch_size=16, temperature=temperature))
    assert history[0]["kl"] == pytest.approx(0.0, abs=1e-5)


def test_the_score_climbs():
    _, history = trained(40, RLOOConfig(batch_size=32, learning_rate=1e-2, kl_coefficient=0.0))
    assert history[0]["score"] < 0.0
    assert sum(metrics["score"] for metrics in history[-5:]) / 5 > 0.7


def test_the_more_divergence_costs_the_less_there_is():
    def divergence(beta):
        _, history = trained(12, RLOOConfig(batch_size=32, learning_rate=1e-2, kl_coefficient=beta))
        return sum(metrics["kl"] for metrics in history[-4:]) / 4

    cheap, dear = divergence(0.01), divergence(1.0)
    assert cheap > 1.0
    assert dear < 0.5 * cheap


def test_a_response_that_does_not_end_is_worth_the_constant_whatever_the_reward_says():
    encoder = tiny_encoder(response_tokens=1)
    settings = {"encoder": encoder, "reward": lambda samples: [100.0 for _ in samples]}
    _, history = trained(1.05, RLOOConfig(batch_size=16, missing_eos_score=-3.0), **settings)
    ended = history[0]["ended"]
    assert ended < 1.0
    assert history[0]["score"] == pytest.approx(100.0 * ended - 3.0 * (1.0 - ended), abs=1e-4)


def test_what_is_rewarded_alike_teaches_nothing():
    settings = {"reward": lambda samples: [2.0 for _ in samples]}
    _, history = trained(1.05, RLOOConfig(batch_size=16, missing_eos_score=2.0, kl_coefficient=0.0), **settings)
    assert history[0]["advantage_deviation"] == 0.0
    assert history[0]["gradient_norm"] == 0.0


@pytest.mark.slow
def test_in_a_bandit_it_ends_at_the_reference_tilted_by_the_reward():
    # The best policy of E[r] − β KL(π‖π_ref) is π ∝ π_ref exp(r/β) (Ziegler et al. 2019; Rafailov et al. 2023, eq. 4).
    beta, encoder = 0.5, tiny_encoder(response_tokens=2)

    def probabilities(policy):
        prompts = encoder.prompts([PROMPT])
        with torch.no_grad():
            logits = policy(input_ids=prompts.tokens).logits[0, -1]
        return logits.softmax(0)[TOKENS]

    settings = {
        "rows": {"prompts": [Prompt(PROMPT, "row 0")]},
        "encoder": encoder,
        "reward": lambda samples: [ARMS[sample.response] for sample in samples],
    }
    start = probabilities(bandit())
    config = RLOOConfig(batch_size=64, samples_per_prompt=8, learning_rate=1e-2, kl_coefficient=beta)
    session, history = trained(60, config, bandit, **settings)
    optimum = start * torch.tensor([math.exp(reward / beta) for reward in ARMS.values()])
    optimum /= optimum.sum()
    assert all(metrics["ended"] == 1.0 for metrics in history)
    assert 0.5 * (start - optimum).abs().sum() > 0.2
    assert 0.5 * (probabilities(session.policy) - optimum).abs().sum() < 0.05


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples_per_prompt": 1}, "samples_per_prompt=1 must be 2 or more"),
        ({"batch_size": 30}, "batch_size=30 must be a multiple of samples_per_prompt=4"),
        ({"batch_size": 0}, "batch_size=0 must be a multiple"),
        ({"temperature": 0.0}, "temperature=0.0 must be above 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RLOOConfig(**settings)
