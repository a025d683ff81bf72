"""The state of objects that a run keeps, and how it is restored."""

from typing import Any

import torch
from torch import Tensor, nn

from zoo_core.compute.sharding import load_full_state
from zoo_core.errors import PluginError, StorageError


def state_of(thing: Any) -> Any:
    """Return the state of a kept object for a checkpoint: its `state_dict`, or the object itself."""
    return thing.state_dict() if hasattr(thing, "state_dict") else thing


def restore(name: str, thing: Any, state: Any) -> None:
    """Restore a kept object exactly; `StorageError` says why the state of a checkpoint does not fit it."""
    try:
        _restore(thing, state)
    except (RuntimeError, ValueError, KeyError, IndexError) as error:
        why = " ".join(str(error).split())
        raise StorageError(
            f"the checkpoint does not fit what this run keeps under {name!r}: {why}. It is of another version of the "
            "plugin, or damaged: delete the cell's folder, and the same command trains it again."
        ) from error


def _restore(thing: Any, state: Any) -> None:
    if isinstance(thing, (nn.Module, torch.optim.Optimizer)):
        load_full_state(thing, state)
    elif hasattr(thing, "load_state_dict"):
        thing.load_state_dict(state)
    elif isinstance(thing, dict):
        thing.clear()
        thing.update(state)
    elif isinstance(thing, list):
        thing[:] = state
    elif isinstance(thing, Tensor):
        with torch.no_grad():
            thing.copy_(state)
    else:
        raise PluginError(
            f"run.keep cannot restore a {type(thing).__name__}; keep modules, optimizers, tensors, dicts or lists."
        )
