"""RAFT passes the suite, climbs a reward, and goes through the iterates of best-of-K."""

import math

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from zoo_raft.config import RAFTConfig
from zoo_raft.train import train

from zoo_core.data import Prompt
from zoo_core.run import Run
from zoo_core.testing import AlgorithmSuite, same_weights, tiny_encoder, tiny_policy, tiny_session, weights

PROMPT = [{"role": "user", "content": "hi"}]
ARMS = {"a": 0.0, "b": 0.5, "c": 1.0, "d": 0.25}
"""Four answers of one letter and their rewards."""
PROMPTS = {"prompts": [Prompt([{"role": "user", "content": text}], text) for text in ("a", "bcd", "ee", "dcba")]}
BANDIT = {
    "rows": {"prompts": [Prompt(PROMPT, "row 0")]},
    "encoder": tiny_encoder(response_tokens=2),
    "reward": lambda samples: [ARMS[sample.response] for sample in samples],
}
TOKENS = tiny_encoder().tokenizer.convert_tokens_to_ids(list(ARMS))


class TestRAFT(AlgorithmSuite):
    name = "raft"
    settings = {"batch_size": 8, "samples_per_prompt": 4, "minibatch_size": 4}


class TestRAFTPlusPlus(AlgorithmSuite):
    name = "raft"
    settings = {"variant": "raft++", "batch_size": 4, "samples_per_prompt": 4, "kl_coefficient": 0.1, "epochs": 1}


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


def probabilities(policy):
    """Return how likely a bandit is to say each arm."""
    prompts = BANDIT["encoder"].prompts([PROMPT])
    with torch.no_grad():
        logits = policy(input_ids=prompts.tokens).logits[0, -1]
    return logits.softmax(0)[TOKENS]


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


@pytest.mark.parametrize("variant", ["raft", "raft-global", "raft++"])
def test_the_score_climbs_whatever_the_variant(variant):
    config = RAFTConfig(variant=variant, batch_size=8, minibatch_size=8, learning_rate=1e-2)
    _, history = trained(12, config, reward=lambda samples: [s.response.count("a") / 2 - 0.4 for s in samples])
    assert history[-1]["score"] > history[0]["score"] + 0.5
    assert all(metrics["selected_score"] > metrics["score"] for metrics in history[:5])


def test_each_prompt_gives_one_response_unless_all_of_them_were_cut_off():
    config = RAFTConfig(batch_size=16, samples_per_prompt=2, minibatch_size=8)
    _, (metrics, *_) = trained(1.05, config)
    assert 0.0 < metrics["selected"] < 0.5
    _, (metrics, *_) = trained(1.05, config, bandit, **BANDIT)
    assert metrics["selected"] == 0.5


def test_a_stage_in_which_every_response_was_cut_off_changes_nothing():
    session = tiny_session(["prompts", "reward"], policy=bandit(), encoder=tiny_encoder(1), rows=BANDIT["rows"])
    start = weights(session.policy)
    metrics = next(train(RAFTConfig(batch_size=4, samples_per_prompt=2), Run(session)))
    assert (metrics["ended"], metrics["selected"], metrics["loss"]) == (0.0, 0.0, 0.0)
    assert same_weights(session.policy, start)


def test_there_is_a_reference_only_if_the_ranking_needs_one():
    roles = []
    for beta in (0.0, 0.1):
        session, _ = trained(1.05, RAFTConfig(batch_size=4, kl_coefficient=beta))
        roles.append({name.partition("/")[0] for name in session.ledger.report()["flops_by_role_phase"]})
    assert roles == [{"policy"}, {"policy", "reference"}]


def test_where_divergence_is_dear_the_policy_stays_closer_to_its_start():
    def distance(beta):
        config = RAFTConfig(batch_size=8, learning_rate=1e-2, kl_coefficient=beta)
        session, _ = trained(12, config, bandit, **BANDIT)
        return 0.5 * (probabilities(session.policy) - probabilities(bandit())).abs().sum().item()

    assert distance(10.0) < 0.5 * distance(0.0)


def test_in_a_bandit_a_long_stage_ends_at_best_of_k_of_its_start():
    # One stage: 512 groups of K = 4, imitated until nothing is left to learn. With F sorted by reward, best of K has
    # the distribution F(y)ᴷ − F(y⁻)ᴷ.
    start = probabilities(bandit())
    config = RAFTConfig(
        batch_size=512, samples_per_prompt=4, minibatch_size=128, epochs=10, learning_rate=0.1, max_grad_norm=1e9
    )
    session = tiny_session(["prompts", "reward"], policy=bandit(), **BANDIT)
    metrics = next(train(config, Run(session)))
    order = torch.tensor(list(ARMS.values())).argsort()
    share = start[order].cumsum(0) ** 4
    expected = torch.zeros(4).index_copy(0, order, share.diff(prepend=torch.zeros(1)))
    assert metrics["selected"] == 1 / 4
    assert 0.5 * (start - expected).abs().sum() > 0.3
    assert 0.5 * (probabilities(session.policy) - expected).abs().sum() < 0.04


def test_stage_after_stage_a_bandit_comes_to_say_nothing_but_the_best():
    session, history = trained(20, RAFTConfig(batch_size=8, learning_rate=1e-2), bandit, **BANDIT)
    assert history[0]["score"] < 0.7
    assert probabilities(session.policy)[list(ARMS).index("c")] > 0.95


def test_one_sample_per_prompt_is_fine_tuning_on_own_samples():
    config = RAFTConfig(batch_size=16, samples_per_prompt=1, minibatch_size=16, epochs=1, learning_rate=1e-12)
    _, (metrics, *_) = trained(1.05, config, bandit, **BANDIT)
    assert metrics["selected"] == 1.0
    assert metrics["selected_score"] == metrics["score"]
    # The loss is then an estimate of the entropy of the arms, halved: the second token, EOS, is certain.
    entropy = -(probabilities(bandit()) * probabilities(bandit()).log()).sum().item()
    assert metrics["loss"] == pytest.approx(entropy / 2, rel=0.3)
    assert metrics["loss"] < math.log(4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size=0 must be 1 or more"),
        ({"samples_per_prompt": 0}, "samples_per_prompt=0 must be 1 or more"),
        ({"minibatch_size": 0}, "minibatch_size=0 must be 1 or more"),
        ({"epochs": 0}, "epochs=0 must be 1 or more"),
        ({"temperature": 0.0}, "temperature=0.0 must be above 0"),
        ({"kl_coefficient": -0.1}, "kl_coefficient=-0.1 must be 0 or more"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RAFTConfig(**settings)
