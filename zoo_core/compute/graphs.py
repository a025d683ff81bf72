"""Steps that a GPU repeats: CUDA graphs, which charge the meter what the recorded step charged it."""

import warnings
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from zoo_core.accounting.audit import ExactCounter, count_again

RECORDS = {"cuda"}
"""The devices that can record."""


@dataclass(frozen=True)
class Recorded:
    """A step as a CUDA graph, and its FLOPs."""

    graph: Any
    charged: int
    """What the meter charged."""
    counted: int
    """What an exact count counted."""


class Graphs:
    """Recorded steps by name. A step must read and write tensors that stay where they are, and never wait.

    The first time a step runs as it is written, the second time it is recorded, and from then on repeated. On other
    devices than GPUs it always runs as it is written. So does a step that cannot be recorded, after a warning.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.recorded: dict[Hashable, Recorded] = {}
        self.seen: set[Hashable] = set()
        self.refused = device.type not in RECORDS
        self._memory: Any = None

    def run(self, name: Hashable, step: Callable[[], None], model: nn.Module) -> None:
        """Run a step of a model."""
        known = self.recorded.get(name)
        if known is not None:
            known.graph.replay()
            _charge(model, known.charged)
            count_again(known.counted)
        elif name in self.seen and not self.refused and self._record(name, step, model):
            self.recorded[name].graph.replay()  # recording charged the meter for it
        else:
            self.seen.add(name)
            step()

    def _record(self, name: Hashable, step: Callable[[], None], model: nn.Module) -> bool:
        """Record a step; return whether that was possible."""
        before = _charged(model)
        graph, undo = new_graph(), stream_now(self.device)
        self._memory = self._memory or graph_memory()
        try:
            with ExactCounter() as counter, recording(graph, self._memory):
                step()
        except RuntimeError as error:
            self.refused = True
            undo()
            _charge(model, before - _charged(model))
            why = str(error).splitlines()[0]
            warnings.warn(f"sampling cannot be recorded as a CUDA graph and goes on step by step: {why}", stacklevel=2)
            return False
        self.recorded[name] = Recorded(graph, _charged(model) - before, counter.total)
        return True


def _charged(model: nn.Module) -> int:
    """Return the FLOPs that the model's meter has charged so far; 0 without a meter."""
    attached = getattr(model, "_zoo", None)
    return attached[0].total if attached else 0


def _charge(model: nn.Module, flops: int) -> None:
    attached = getattr(model, "_zoo", None)
    if attached:
        meter, role = attached
        meter.charge(role, flops)


def new_graph() -> Any:
    """Return an empty CUDA graph."""
    return torch.cuda.CUDAGraph()


def graph_memory() -> Any:
    """Return a pool that graphs take their memory from."""
    return torch.cuda.graph_pool_handle()


def stream_now(device: torch.device) -> Callable[[], None]:
    """Return a function that goes back to this stream: a recording that fails leaves its own stream behind."""
    if device.type != "cuda":
        return lambda: None
    stream = torch.cuda.current_stream(device)

    def back() -> None:
        torch.cuda.set_stream(stream)
        torch.cuda.synchronize(device)

    return back


def recording(graph: Any, memory: Any) -> Any:
    """Return the context in which launches are recorded and not run."""
    return torch.cuda.graph(graph, pool=memory)
