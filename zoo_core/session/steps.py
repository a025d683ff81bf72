"""Driving an algorithm: its metrics update by update, and one sentence for a loop that breaks the contract."""

import math
import reprlib
from collections.abc import Iterator, Mapping
from numbers import Real

from zoo_core.errors import PluginError
from zoo_core.session.session import Session


def steps(training: object, session: Session) -> Iterator[dict[str, float]]:
    """Yield what `train(config, run)` yields, as plain floats.

    Raises `PluginError` for what is no generator, for metrics that are no numbers, for a yield outside of an update
    and an update without one; `FloatingPointError` for a metric that is infinite or not a number.
    """
    if not isinstance(training, Iterator):
        raise PluginError(
            f"train() returned {reprlib.repr(training)}; it must be a generator that yields metrics once per update"
        )
    session.outside.watching = session.audited > 0
    session.outside.begin()
    try:
        yield from _steps(training, session)
    finally:
        session.outside.watching = False
        session.outside.end()


def _steps(training: Iterator[object], session: Session) -> Iterator[dict[str, float]]:
    seen = session.begun
    for metrics in training:
        if session.begun == seen:
            raise PluginError("train() yielded outside of an update; yield once in `for update in run.updates():`")
        _check_every_update_yields(session.begun - seen - 1)
        seen = session.begun
        yield {str(name): _number(name, value, seen - 1) for name, value in _checked(metrics, seen - 1).items()}
    _check_every_update_yields(session.begun - seen)
    if not session.loops:
        raise PluginError("train() ended and never asked for an update; write `for update in run.updates():`")


def _check_every_update_yields(silent: int) -> None:
    if silent:
        raise PluginError("train() made an update without a yield; yield its metrics once per update")


def _checked(metrics: object, update: int) -> Mapping[object, object]:
    if not isinstance(metrics, Mapping) or not all(isinstance(name, str) for name in metrics):
        raise PluginError(
            f"train() yielded {reprlib.repr(metrics)} in update {update}; yield a dict of names and numbers, as "
            "{'loss': loss.item()}"
        )
    return metrics


def _number(name: object, value: object, update: int) -> float:
    if not isinstance(value, Real) or isinstance(value, bool):
        hint = "; write .item()" if hasattr(value, "item") else ""
        raise PluginError(
            f"train() yielded {name}={reprlib.repr(value)} in update {update}; a metric must be a number{hint}"
        )
    if not math.isfinite(value):
        raise FloatingPointError(f"the metric {name!r} became {value} in update {update}")
    return float(value)
