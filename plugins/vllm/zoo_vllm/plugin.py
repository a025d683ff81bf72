"""Answers to the name of the engine, `vllm` or `vllm:SHARE`, and refuses it where vLLM is not installed."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from zoo_core.errors import SpecError
from zoo_core.hookspecs import hookimpl

if TYPE_CHECKING:
    from zoo_core.rollout import RolloutEngine

SHARE = 0.3
"""The share of the GPU's memory that vLLM takes. The rest is for training, which needs most of it."""


@hookimpl
def zoo_rollout_engine(name: str) -> "RolloutEngine | None":
    """Return the engine of `vllm` or `vllm:0.4`; `SpecError` if the share is none, or vLLM is not installed."""
    head, colon, text = name.partition(":")
    if head != "vllm":
        return None
    share = _share(name, text) if colon else SHARE
    if find_spec("vllm") is None:
        raise SpecError(
            f"rollout_engine: {name} needs the package vllm, which is not installed: pip install 'zoo-vllm[vllm]'. "
            "Or use `rollout_engine: cached`."
        )
    from zoo_vllm.engine import engine_of

    return engine_of(share)


def _share(name: str, text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0.0 < share < 1.0:
        raise SpecError(
            f"rollout_engine: {name!r} must end in vLLM's share of the GPU's memory, between 0 and 1: vllm:{SHARE}."
        )
    return share
