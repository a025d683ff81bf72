"""The laws of a row's own objective: `start` is where it begins, and better means better at what is trained for."""

import math

import pytest
import torch
from zoo_harness.jobs.objective import BETA, loss_on, of_demonstrations, of_preferences, of_reward, rows_tell

from zoo_core.rollout import response_logprobs
from zoo_core.rows import Demonstration, Preference
from zoo_core.testing.tiny import tiny_encoder, tiny_policy

ENCODER = tiny_encoder()
PAIRS = [Preference("abcde"[n % 5], "a" * (1 + n % 3), "bcd"[n % 3], f"row {n}") for n in range(70)]
DEMONSTRATIONS = [Demonstration(pair.prompt, pair.chosen, pair.where) for pair in PAIRS]


def trained_on(rows, steps=20):
    """A policy that has learnt the answers of these rows."""
    policy = tiny_policy()
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-2)
    batch = ENCODER.responses([(row.prompt, row.completion) for row in rows])
    for _ in range(steps):
        optimizer.zero_grad()
        (-response_logprobs(policy, batch)[batch.mask].mean()).backward()
        optimizer.step()
    return policy.eval()


def test_at_start_the_loss_on_pairs_is_ln_2_and_nothing_is_better():
    found = of_preferences(tiny_policy().eval(), tiny_policy().eval(), ENCODER, PAIRS)
    assert found["after"] == pytest.approx(math.log(2), abs=1e-12)
    assert (found["before"], found["better"]) == (math.log(2), False)


def test_the_loss_on_pairs_is_the_mean_of_every_pair_alone():
    policy, start = trained_on(DEMONSTRATIONS), tiny_policy().eval()

    def log_probability(model, prompt, text):
        batch = ENCODER.responses([(prompt, text)])
        return response_logprobs(model, batch)[batch.mask].sum().item()

    losses = []
    for pair in PAIRS:
        gained = [
            log_probability(policy, pair.prompt, text) - log_probability(start, pair.prompt, text)
            for text in (pair.chosen, pair.rejected)
        ]
        losses.append(math.log1p(math.exp(-BETA * (gained[0] - gained[1]))))
    with torch.no_grad():
        found = of_preferences(policy, start, ENCODER, PAIRS)
    assert found["after"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert found["better"]


def test_a_policy_that_learnt_the_rejected_answers_is_worse():
    rejected = [Demonstration(pair.prompt, pair.rejected, pair.where) for pair in PAIRS]
    assert not of_preferences(trained_on(rejected), tiny_policy().eval(), ENCODER, PAIRS)["better"]


def test_the_loss_on_demonstrations_is_a_mean_over_tokens_whatever_the_batches():
    policy = tiny_policy().eval()
    total = tokens = 0.0
    with torch.no_grad():
        for row in DEMONSTRATIONS:
            batch = ENCODER.responses([(row.prompt, row.completion)])
            total -= response_logprobs(policy, batch)[batch.mask].sum().item()
            tokens += int(batch.mask.sum())
    assert loss_on(policy, ENCODER, DEMONSTRATIONS) == pytest.approx(total / tokens, rel=1e-5)


def test_fine_tuning_is_better_than_its_start_and_the_start_than_none():
    start, policy = tiny_policy().eval(), trained_on(DEMONSTRATIONS)
    assert of_demonstrations(policy, start, ENCODER, DEMONSTRATIONS)["better"]
    assert not of_demonstrations(start, policy, ENCODER, DEMONSTRATIONS)["better"]


def test_nothing_is_said_where_there_is_nothing_to_measure_on():
    policy = tiny_policy().eval()
    assert of_demonstrations(policy, policy, ENCODER, []) is None
    assert of_preferences(policy, policy, ENCODER, []) is None
    assert of_reward({}, {}) is None
    assert of_reward(summaries({"1": None}), summaries({"1": 0.1})) is None


def summaries(proxies):
    return {t: {"gold": 0.0, "proxy": proxy, "length": 1.0, "ended": 1.0} for t, proxy in proxies.items()}


@pytest.mark.parametrize(
    ("learns_from", "told"),
    [
        (("demonstrations",), True),
        (("preferences",), True),
        (("demonstrations", "preferences", "prompts", "reward"), True),
        (("prompts", "judge"), False),
        (("prompts", "reward"), False),
        (("demonstrations", "prompts"), False),  # distillation: its answers are judged by a teacher
    ],
)
def test_rows_tell_of_what_learns_from_them_and_not_of_one_whose_answers_a_teacher_judges(learns_from, told):
    assert rows_tell(learns_from) is told


def test_a_reward_is_compared_at_the_highest_temperature_of_both():
    mine, start = summaries({"0": 9.0, "0.5": 0.1, "1": 0.4}), summaries({"0": 0.0, "0.5": 0.3, "1": 0.2})
    assert of_reward(mine, start) == {"what": "reward", "before": 0.2, "after": 0.4, "better": True}
    del mine["1"]
    assert of_reward(mine, start) == {"what": "reward", "before": 0.3, "after": 0.1, "better": False}
