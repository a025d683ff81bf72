"""Copies of models in memory: references, and scorers on the body of a policy."""

import copy
from collections.abc import Mapping
from typing import Any, TypeVar, cast

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from zoo_core.compute.sharding import full_state, is_sharded, load_full_state, prepare_model
from zoo_core.errors import ModelError
from zoo_core.models.attention import attention_for
from zoo_core.models.lora import adapted_layers, add_adapters_of, merged_weights

M = TypeVar("M", bound=nn.Module)


def scorer_from(policy: PreTrainedModel, seed: int) -> PreTrainedModel:
    """Return a scorer on a copy of a policy's body, with a new head ~ N(0, 1/√(d+1)) without bias.

    The initialisation is that of Ziegler et al. 2019 (arXiv:1909.08593), section 2.1.
    """
    config = type(policy.config).from_dict(
        {**policy.config.to_dict(), "id2label": {0: "score"}, "label2id": {"score": 0}}
    )
    auto = AutoModelForSequenceClassification
    scorer: PreTrainedModel = auto.from_config(config, attn_implementation=attention_for(auto, config))
    head = scorer.get_parameter("score.weight")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        head.copy_(torch.randn(head.shape, generator=generator) / (head.shape[1] + 1) ** 0.5)
    adapted = any(adapted_layers(policy))
    body = merged_weights(policy.base_model) if adapted else policy.base_model.state_dict()
    load_full_state(prepare_model(scorer).base_model, body)
    return without_dropout(scorer)


def copied(model: M, shared: Mapping[int, object] | None = None) -> M:
    """Return a copy of a model with its own weights, except those in `shared`, by id. Collective.

    A copy of a model that FSDP2 has sharded has full weights and shares none. Of a part of an adapted one, such as its
    body, the copy has the adapter in its weights.
    """
    if not is_sharded(model):
        return copy.deepcopy(model, dict(shared or {}))  # deepcopy takes objects in its memo for copied already
    adapted = any(adapted_layers(model))
    if not adapted and any(not weight.requires_grad for weight in model.parameters()):
        raise ModelError(
            "FSDP2: models cannot share weights that are frozen. Launch without --use_fsdp (DDP), or use an "
            "arrangement of separate models."
        )
    kind: Any = next(kind for kind in type(model).__mro__ if not issubclass(kind, FSDPModule))
    with torch.random.fork_rng():
        twin: Any = kind(copy.deepcopy(model.config))
        if hasattr(model, "peft_config"):
            add_adapters_of(model, twin)  # type: ignore[arg-type]
    in_weights = adapted and not hasattr(model, "peft_config")
    twin.load_state_dict(merged_weights(model) if in_weights else full_state(model))
    return cast(M, without_dropout(twin.train(model.training)))


def without_dropout(model: M) -> M:
    """Set all dropout probabilities of a model to 0; return the model."""
    # p = 0 and not eval(): with dropout the probability ratio of an unchanged policy would not be 1.
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        # Others pass a probability to a function, some from their config: hidden_dropout, layerdrop, ...
        for holder in (module, getattr(module, "config", None)):
            for name, value in list(getattr(holder, "__dict__", {}).items()):
                if "drop" in name and isinstance(value, (int, float)) and not isinstance(value, bool):
                    setattr(holder, name, 0.0)
    return model
