"""The optimizer of a bench: AdamW as the algorithms make it, or the same with moments of 8 bits.

Algorithms write AdamW. With `optimizer: adamw-8bit` a run puts another optimizer in its place, with the same weights
and settings, whose moments take two bytes a weight in place of eight. A process has one kind; the harness sets it from
the spec of the bench.
"""

from typing import Literal

from torch.optim import AdamW, Optimizer

from zoo_core.compute.adamw_8bit import AdamW8bit
from zoo_core.compute.sharding import fsdp_plugin
from zoo_core.errors import ModelError, PluginError

Kind = Literal["adamw", "adamw-8bit"]
NOT_TAKEN = ("amsgrad", "capturable", "decoupled_weight_decay", "differentiable", "foreach", "fused", "maximize")
"""What else is in AdamW's groups: variants that are refused, and how it computes."""

_kind: Kind = "adamw"


def optimize_with(kind: Kind) -> None:
    """Set the optimizer of this process from now on."""
    global _kind
    _kind = kind


def optimizer_of_the_bench(optimizer: Optimizer) -> Optimizer:
    """Return the optimizer to train with in place of this new one: itself, or one with moments of 8 bits.

    `PluginError` if it is none that the other can stand in for, `ModelError` under FSDP2. The one that was given can
    make no step afterwards.
    """
    if _kind == "adamw":
        return optimizer
    if fsdp_plugin() is not None:
        raise ModelError("FSDP2: optimizer: adamw-8bit needs whole models. Launch without --use_fsdp (DDP).")
    if type(optimizer) is not AdamW:
        raise PluginError(
            f"optimizer: adamw-8bit stands in for torch's AdamW only, not for {type(optimizer).__name__}."
        )
    if optimizer.state:
        raise PluginError("optimizer: adamw-8bit: give the optimizer to run.keep before its first step.")
    for group in optimizer.param_groups:
        if group["amsgrad"] or group["maximize"]:
            raise PluginError("optimizer: adamw-8bit has neither amsgrad nor maximize of AdamW; leave them out.")
        if "initial_lr" in group:
            raise PluginError("optimizer: adamw-8bit: make the schedule from the optimizer that run.keep returns.")
    plain = [{key: value for key, value in group.items() if key not in NOT_TAKEN} for group in optimizer.param_groups]
    optimizer.register_step_pre_hook(_refuse)
    return AdamW8bit(plain)


def _refuse(*_: object) -> None:
    raise PluginError("optimizer: adamw-8bit: train with the optimizer that run.keep returns, not with its own.")
