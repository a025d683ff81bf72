"""An exact count of the FLOPs of all operators that run, by which the meter is audited."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from zoo_core.accounting.formulas import FORMULAS, is_unknown


class _Running(threading.local):
    """The counters that count at this moment in this thread: PyTorch tells a counter of no other thread's operators."""

    def __init__(self) -> None:
        self.counters: list[ExactCounter] = []


RUNNING = _Running()


def count_again(flops: int) -> None:
    """Count what a recorded step repeats: its operators run without being called."""
    for counter in RUNNING.counters:
        counter.total += flops


@contextlib.contextmanager
def uncounted() -> Iterator[None]:
    """Count nothing inside this context: what runs here on the device "meta" computes nothing."""
    totals = [(counter, counter.total) for counter in RUNNING.counters]
    try:
        yield
    finally:
        for counter, total in totals:
            counter.total = total


class ExactCounter(TorchDispatchMode):
    """Counts the FLOPs of every operator that runs inside this context.

    Unlike torch's `FlopCounterMode` it decomposes no operator, so that an audited update computes the same bits as any
    other. (FlopCounterMode decomposes `silu_backward`, and the weights come out different.)
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0
        self.failed: str | None = None
        """The first operator whose FLOPs could not be counted, and why. The total lacks it; the training goes on."""

    def __enter__(self) -> "ExactCounter":
        RUNNING.counters.append(self)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: object) -> None:
        RUNNING.counters.remove(self)
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        formula = FORMULAS.get(func._overloadpacket)
        if formula is None and torch.is_inference_mode_enabled() and func._can_decompose():
            with self:  # under inference_mode `linear` arrives whole, and its matrix product would not be seen
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        out = func(*args, **kwargs)
        if formula is None:
            if is_unknown(func):
                self.failed = self.failed or f"{func}: its FLOPs are not known"
        else:
            try:
                self.total += formula(*args, **kwargs, out_val=out)
            except Exception as error:  # a formula of some version of torch
                self.failed = self.failed or f"{func}: {type(error).__name__}: {error}"
        return out
