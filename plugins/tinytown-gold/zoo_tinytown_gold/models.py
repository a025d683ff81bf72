"""A world's models, trained by the zoo's own algorithms and sampled by its own sampler."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import torch
from transformers import PreTrainedModel

from zoo_core.compute.processes import accelerator
from zoo_core.compute.sampler import roll_out, sample_cached
from zoo_core.datasets.chat import named_ends
from zoo_core.datasets.encoding import Encoder
from zoo_core.models.loading import load_policy
from zoo_core.models.scorer import Scorer
from zoo_core.models.tokenizers import load_tokenizer
from zoo_core.registry.plugins import plugins
from zoo_core.reward import Calibration, Reward, Sample
from zoo_core.rows import DataRow, Demonstration, Preference, Prompt
from zoo_core.run import Run
from zoo_core.session.session import Session
from zoo_core.session.steps import steps
from zoo_tinytown_gold.rows import Row
from zoo_tinytown_gold.tokenizer import CONTEXT

RESPONSE_TOKENS = 48
AT_ONCE = 256
"""Prompts in one batch of the sampler."""
UNBOUNDED = 1e30
"""FLOPs."""
CLIMB = {"batch_size": 96, "learning_rate": 2e-3, "kl_coefficient": 0.0}
"""RLOO without a divergence to hold it back."""


def encoder_of(base: Path) -> Encoder:
    """Return a base's tokenizer with the lengths of its world."""
    device, ends = accelerator().device, named_ends(base)
    return Encoder(load_tokenizer(base), CONTEXT - RESPONSE_TOKENS, RESPONSE_TOKENS, device, ends)


def conversation(text: str) -> list[dict[str, str]]:
    """Return a prompt as the rows of a world write it."""
    return [{"role": "user", "content": text}]


def fine_tuned(base: Path, rows: Iterable[Row], seed: int) -> PreTrainedModel:
    """Return the base after the SFT stage of a bench on these demonstrations."""
    demonstrations = [
        Demonstration(row["prompt"], row["completion"], f"demonstration {number}") for number, row in enumerate(rows)
    ]
    session = session_for(base, {"demonstrations": demonstrations}, seed, load_policy(base).train())
    for _ in trained("sft", session):
        pass
    session.policy.eval()
    return session.policy


def reward_model(base: Path, start: PreTrainedModel, rows: Iterable[Row], seed: int = 0, **settings: object) -> Scorer:
    """Return a reward that the reward-model stage of a bench learns from pairs; `settings` replace its own."""
    pairs = [
        Preference(row["prompt"], row["chosen"], row["rejected"], f"pair {number}") for number, row in enumerate(rows)
    ]
    session = session_for(base, {"preferences": pairs}, seed, start)
    for _ in trained("reward-model", session, settings):
        pass
    return Scorer(session.kept["reward"].eval(), session.encoder.tokenizer)


def climb(
    base: Path, policy: PreTrainedModel, texts: Iterable[str], reward: Reward, units: Calibration, updates: int
) -> Iterator[int]:
    """Train a policy on a reward by RLOO, with nothing to hold it back; yield the number of each update."""
    prompts = [Prompt(conversation(text), f"prompt {number}") for number, text in enumerate(texts)]
    session = session_for(base, {"prompts": prompts}, 0, policy, reward, units)
    return islice(trained("rloo", session, CLIMB), updates)


def session_for(
    base: Path,
    rows: Mapping[str, Sequence[DataRow]],
    seed: int,
    policy: PreTrainedModel,
    reward: Reward | None = None,
    units: Calibration | None = None,
) -> Session:
    """Return a session whose budget is never spent."""
    return Session(
        policy=policy,
        encoder=encoder_of(base),
        seed=seed,
        budget=UNBOUNDED,
        rows=rows,
        reward=reward,
        calibration=units,
    )


def trained(algorithm: str, session: Session, settings: Mapping[str, object] | None = None) -> Iterator[int]:
    """Train by the recipe of an algorithm's stage, if it has one; yield the number of each update, from 1."""
    record = plugins().algorithm(algorithm)
    config = record.load_config()(**{**(record.stage or {}), **(settings or {})})
    for update, _ in enumerate(steps(record.load_train()(config, Run(session)), session), start=1):
        yield update


def answers(
    policy: PreTrainedModel, base: Path, texts: Sequence[str], temperature: float, seed: int = 0
) -> list[Sample]:
    """Answer each prompt once; temperature 0 is greedy."""
    encoder = encoder_of(base)
    generator = torch.Generator(encoder.device).manual_seed(seed)
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    found: dict[int, Sample] = {}
    for start in range(0, len(order), AT_ONCE):
        places = order[start : start + AT_ONCE]
        prompts = encoder.prompts([conversation(texts[place]) for place in places])
        rollout = roll_out(sample_cached, policy, prompts, encoder, temperature, generator)
        found |= zip(places, rollout.samples, strict=True)
    return [found[place] for place in range(len(texts))]
