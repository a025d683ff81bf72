"""A scorer made of likelihood ratios: how much likelier a trained policy finds an answer than the policy it came from.

A scalar head on hidden states has to learn from a few hundred labels whether each token is what the prompt asked for. A
language model knows that already: it is the probability that it gives the token.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from zoo_core.compute.packing import TokenRow
from zoo_core.compute.processes import is_main_process
from zoo_core.functional import masked_sum
from zoo_core.models.lora import adapted_layers, adapter
from zoo_core.rollout import Responses, response_logprobs
from zoo_core.storage.atomic import write_text

MARK = "log_ratio.json"
"""The file that tells a folder of such a scorer from one of a policy."""
ORIGIN = "start"
"""The folder of the other model, inside that of the trained one."""


class LogRatioScorer(nn.Module):
    """r(x, y) = β · Σₜ [log π(yₜ | x, y₍<ₜ₎) − log π₀(yₜ | x, y₍<ₜ₎)], with π₀ = π before training.

    Rafailov et al. 2023 (arXiv:2305.18290), section 4: the reward that a policy stands for, up to a term of the prompt.
    Every score is 0 before training.
    """

    def __init__(self, policy: PreTrainedModel, start: PreTrainedModel | None, scale: float) -> None:
        """`start` is π₀; None: it is `policy` without its adapter. `scale` is β."""
        super().__init__()
        self.policy = policy
        self.start = start
        self.scale = scale

    @property
    def config(self) -> PretrainedConfig:
        """The config of both models."""
        return self.policy.config

    @property
    def device(self) -> torch.device:
        """The device of the trained policy."""
        return self.policy.device

    def forward(self, rows: Sequence[TokenRow]) -> Float[Tensor, " B"]:
        """Return the score of each row of prompt and answer tokens. Collective."""
        batch = Responses.of(rows, self.config.pad_token_id, self.device)
        ratio = response_logprobs(self.policy, batch) - self.before(batch)
        return self.scale * masked_sum(ratio, batch.mask)

    @torch.no_grad()
    def before(self, batch: Responses) -> Float[Tensor, "B T"]:
        """Return log π₀ of each answer token, in nats."""
        if self.start is not None:
            return response_logprobs(self.start, batch)
        with adapter(self.policy, None):
            return response_logprobs(self.policy, batch)


def save_log_ratio(scorer: LogRatioScorer, directory: Path, save: Any) -> None:
    """Write both models by `save(model, directory)`, and what makes them a scorer. Rank 0 writes. Collective."""
    save(scorer.policy, directory)
    if scorer.start is not None:
        save(scorer.start, directory / ORIGIN)
    if is_main_process():
        write_text(directory / MARK, json.dumps({"scale": scorer.scale}) + "\n")


def is_log_ratio(directory: Path) -> bool:
    """Return whether `save_log_ratio` wrote this directory."""
    return (directory / MARK).is_file()


def load_log_ratio(directory: Path, load: Any) -> LogRatioScorer:
    """Read a scorer back, each of its models by `load(directory)`; it computes the same bits."""
    policy = load(directory)
    start = None if any(adapted_layers(policy)) else load(directory / ORIGIN)
    return LogRatioScorer(policy, start, json.loads((directory / MARK).read_text())["scale"])
