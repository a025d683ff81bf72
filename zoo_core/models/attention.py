"""The attention implementation of a model: the fast one, which packs rows, if it is correct for the model.

Transformers' interface to PyTorch's attention has no caps on scores and no sinks, and some classes compute attention
themselves. Such models run as they were written ("eager"), and products.py counts their FLOPs.
"""

from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from zoo_core.errors import ModelError


def class_of(auto: Any, config: PreTrainedConfig) -> type[PreTrainedModel]:
    """Return the class that an auto class chooses for a configuration, without making weights."""
    try:
        with torch.device("meta"):
            return type(auto.from_config(config, attn_implementation="eager"))
    except ValueError as error:
        if "Unrecognized configuration class" not in str(error):
            raise
        what = "scorer (sequence classifier)" if "SequenceClassification" in auto.__name__ else "language model"
        raise ModelError(f"transformers has no {what} of the architecture {config.model_type}.") from None


def attention_for(auto: Any, config: PreTrainedConfig) -> str:
    """Return the name of the implementation to load a model with."""
    capped = getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None
    return "sdpa" if class_of(auto, config)._supports_sdpa and not capped else "eager"
