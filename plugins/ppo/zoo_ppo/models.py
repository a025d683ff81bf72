"""Policy, reference and critic of PPO in three arrangements of memory. The formulas are the same in all three.

separate   three models: every weight of policy and critic is trained
hydra      one trunk, frozen below its top layers; the reference has a copy of the top, the critic a head on it
lora       one frozen base: policy and critic are adapters on it, the reference is the base alone
"""

from collections.abc import Callable
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from zoo_core.errors import ModelError, SpecError
from zoo_core.models.lora import activate, adapted_layers, adapter, add_adapter, share_storage
from zoo_core.rollout import Responses, logprobs_and_states, response_logprobs, response_states
from zoo_core.run import Run
from zoo_ppo.config import PPOConfig
from zoo_ppo.critic import Critic, critic_from_reward, value_head


class Models(Protocol):
    """The interface of an arrangement to the training loop. It is made before the loop begins."""

    parameters: list[nn.Parameter]
    """The trained weights of policy and critic."""

    def evaluate(self, batch: Responses) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B slots"]]:
        """Return the log-probabilities of the response tokens, and the values of the states between them."""

    def values(self, batch: Responses) -> Float[Tensor, "B slots"]:
        """Return the values only."""

    def reference_logprobs(self, batch: Responses) -> Float[Tensor, "B T"]:
        """Return log-probabilities under the policy at the start."""


class Separate:
    """Policy, reference and critic are three models."""

    def __init__(self, config: PPOConfig, run: Run) -> None:
        self.policy, self.temperature = run.policy, config.temperature
        self.reference = run.reference()
        self.values = run.keep("critic", critic_from_reward(run) if config.critic == "reward" else Critic(run.policy))
        self.parameters = [*run.policy.parameters(), *self.values.parameters()]

    def evaluate(self, batch: Responses) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B slots"]]:
        """Return log-probabilities and values from two forward passes, one of the policy and one of the critic."""
        return response_logprobs(self.policy, batch, self.temperature), self.values(batch)

    @torch.no_grad()
    def reference_logprobs(self, batch: Responses) -> Float[Tensor, "B T"]:
        """Return log-probabilities under a full copy of the policy at the start."""
        return response_logprobs(self.reference, batch, self.temperature)


class Hydra:
    """One trunk with a trained branch (the policy), a frozen branch (the reference), and a value head on the former."""

    def __init__(self, config: PPOConfig, run: Run) -> None:
        self.policy, self.temperature = run.policy, config.temperature
        if any(adapted_layers(run.policy)):
            raise SpecError("models='hydra' trains whole layers, and the spec's `lora` adapters. Set models: lora.")
        freeze_trunk(run.policy, config.unfrozen_layers)
        self.reference = run.reference()  # shares all frozen weights, tied embeddings included
        self.head = run.keep("critic", value_head(run.policy))
        trained = [weight for weight in run.policy.parameters() if weight.requires_grad]
        self.parameters = [*trained, *self.head.parameters()]

    def evaluate(self, batch: Responses) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B slots"]]:
        """Return both from one forward pass: the value head reads the same hidden states as the language head."""
        logprobs, values = logprobs_and_states(self.policy, batch, self.temperature, self.head)
        return logprobs, values.squeeze(-1)

    def values(self, batch: Responses) -> Float[Tensor, "B slots"]:
        """Return the values from trunk and value head, without the language head."""
        return response_states(self.policy.base_model, batch, self.head).squeeze(-1)

    @torch.no_grad()
    def reference_logprobs(self, batch: Responses) -> Float[Tensor, "B T"]:
        """Return log-probabilities from the shared trunk and the frozen branch."""
        return response_logprobs(self.reference, batch, self.temperature)


class LoRA:
    """One frozen base with an adapter for the policy and one for the critic; the policy's is active between calls."""

    def __init__(self, config: PPOConfig, run: Run) -> None:
        self.policy, self.temperature = run.policy, config.temperature
        self.head = run.keep("critic", value_head(run.policy))
        adapted = any(adapted_layers(run.policy))  # by the spec's `lora`; of_policy are its weights then
        of_policy = [weight for weight in run.policy.parameters() if weight.requires_grad]
        of_critic = add_adapter(run.policy, "critic", config.lora_rank)
        if adapted:
            activate(run.policy, "policy")
        else:
            of_policy = add_adapter(run.policy, "policy", config.lora_rank)
        self.parameters = [*of_policy, *of_critic, *self.head.parameters()]
        for weight in self.parameters:
            weight.requires_grad_(True)
        if run.reward_model is not None:
            for model in run.reward_model[0].models:
                share_storage(model, run.policy)

    def evaluate(self, batch: Responses) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B slots"]]:
        """Return log-probabilities and values from two forward passes, one with each adapter."""
        return response_logprobs(self.policy, batch, self.temperature), self.values(batch)

    def values(self, batch: Responses) -> Float[Tensor, "B slots"]:
        """Return the values from the base with the critic's adapter and the value head."""
        with adapter(self.policy, "critic"):
            values = response_states(self.policy.base_model, batch, self.head)
        return values.squeeze(-1)

    @torch.no_grad()
    def reference_logprobs(self, batch: Responses) -> Float[Tensor, "B T"]:
        """Return log-probabilities under the base alone."""
        with adapter(self.policy, None):
            return response_logprobs(self.policy, batch, self.temperature)


def freeze_trunk(policy: PreTrainedModel, unfrozen_layers: int) -> None:
    """Freeze the embeddings (and a head tied to them) and all layers except the top ones."""
    depth = policy.config.num_hidden_layers
    stacks = [part for part in policy.base_model.modules() if isinstance(part, nn.ModuleList) and len(part) == depth]
    if not stacks:
        raise ModelError(
            f"models='hydra': {type(policy).__name__} has no list of its {depth} layers to divide. Set models: lora."
        )
    if unfrozen_layers > depth:
        raise SpecError(f"unfrozen_layers={unfrozen_layers} is more than the {depth} layers there are. Lower it.")
    embeddings = [part for part in policy.base_model.modules() if isinstance(part, nn.Embedding)]
    for part in [*embeddings, *stacks[0][: depth - unfrozen_layers]]:
        part.requires_grad_(False)


ARRANGEMENTS: dict[str, Callable[[PPOConfig, Run], Models]] = {"separate": Separate, "hydra": Hydra, "lora": LoRA}
