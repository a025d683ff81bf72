"""Problems for tests of algorithms: a bandit whose optimum is known, and a policy that learns fast.

    session, history = trained(train, 60, MyConfig(), bandit, **BANDIT)
    arm_probabilities(session.policy)

Tests of plugins use them. The checks that every algorithm must pass are in suite.py.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import LlamaForCausalLM

from zoo_core.reward import Sample
from zoo_core.rows import Prompt
from zoo_core.run import Run
from zoo_core.session.session import Session
from zoo_core.testing.tiny import tiny_encoder, tiny_policy, tiny_session

PROMPT = [{"role": "user", "content": "hi"}]
PROMPTS = {"prompts": [Prompt([{"role": "user", "content": text}], text) for text in ("a", "bcd", "ee", "dcba")]}
"""The rows of a session."""
ARMS = {"a": 0.0, "b": 0.5, "c": 1.0, "d": 0.25}
"""Four answers of one letter and their rewards."""
TOKENS = tiny_encoder().tokenizer.convert_tokens_to_ids(list(ARMS))


def reward_of_arms(samples: Sequence[Sample]) -> list[float]:
    """Return the reward of the arm in each sample; a bandit gives no other answer."""
    return [ARMS[sample.response] for sample in samples]


BANDIT: dict[str, Any] = {
    "rows": {"prompts": [Prompt(PROMPT, "row 0")]},
    "encoder": tiny_encoder(response_tokens=2),
    "reward": reward_of_arms,
}
"""Settings of a session in which a bandit says one arm to one prompt."""


class Bandit(LlamaForCausalLM):
    """A tiny Llama that answers with one arm and then ends."""

    def forward(self, input_ids: Tensor, **settings: Any) -> Any:
        """Return logits that allow an arm first, and EOS after it."""
        out = super().forward(input_ids=input_ids, **settings)
        arms, kept = torch.tensor(TOKENS), settings.get("logits_to_keep", 0)
        said = torch.isin(input_ids[:, kept if isinstance(kept, Tensor) else slice(-kept, None)], arms).unsqueeze(-1)
        word = torch.arange(out.logits.shape[-1])
        allowed = torch.where(said, word == self.config.eos_token_id, torch.isin(word, arms))
        out.logits = out.logits.masked_fill(~allowed, -1e9)
        return out


def bandit(**settings: Any) -> Bandit:
    """Return a tiny bandit, the same one every time; the settings change its `LlamaConfig`."""
    return Bandit(tiny_policy(hidden_size=16, **settings).config)


@torch.no_grad()
def arm_probabilities(policy: LlamaForCausalLM) -> Float[Tensor, " 4"]:
    """Return how likely a bandit is to say each arm."""
    logits: Tensor = policy(input_ids=BANDIT["encoder"].prompts([PROMPT]).tokens).logits
    return logits[0, -1].softmax(0)[TOKENS]


def five_letters() -> LlamaForCausalLM:
    """Return a policy that knows the letters a to e only, so that it ends and says a now and then from the start."""
    return tiny_policy(vocab_size=12)


def trained(
    train: Callable[[Any, Run], Iterator[dict[str, float]]],
    updates: float | int,
    config: object,
    make: Callable[[], LlamaForCausalLM] = five_letters,
    **settings: Any,
) -> tuple[Session, list[dict[str, float]]]:
    """Train on a reward with a budget of so many first updates; return the session and the metrics."""
    settings = {"rows": PROMPTS, **settings}
    first = tiny_session(["prompts", "reward"], policy=make(), **settings)
    next(train(config, Run(first)))
    budget = float(updates * first.ledger.flops)
    session = tiny_session(["prompts", "reward"], policy=make(), budget=budget, **settings)
    return session, list(train(config, Run(session)))
