"""The engine behind `run.updates()`: budget, audit, checkpoints and resume of one training loop."""

import random
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from zoo_core.accounting.audit import ExactCounter
from zoo_core.accounting.budget import BudgetWindow
from zoo_core.compute.gradients import average_gradients
from zoo_core.compute.processes import broadcast
from zoo_core.errors import BudgetError, PluginError
from zoo_core.session import checkpoint
from zoo_core.session.seeds import derive, seed_everything
from zoo_core.session.session import Session

CHECKPOINTS = 0.02
"""Share of a training's time that checkpoints between its updates may take."""
WRITTEN = 0.7e9
"""Bytes of a checkpoint that are written in a second, until one was: 4.76 GB took 6.84 s beside an H100."""


class Loop:
    """The loop of one stage: it yields an update while the stage's window of the budget allows one more.

    Checkpoints are taken between two updates, where policy, optimizer and ledger agree. An update that passes the end
    of the window is undone.
    """

    def __init__(self, session: Session, stage: str, window: BudgetWindow) -> None:
        self.session = session
        self.stage = stage
        """The name of the stage; "" for the run itself."""
        self.window = window
        self.update = -1
        """The update that the loop is in, or was in last; -1 before the first."""
        self.draws = 0
        """Number of times that this update has sampled."""
        self.entered = False
        self._bound: int | None = None
        self._saved = 0.0
        self._took: float | None = None
        """Seconds that the last checkpoint took; None before the first."""

    @property
    def progress(self) -> float:
        """Progress from 0 to 1: the share of the window that is spent, or of a bounded count of updates."""
        by_count = max(self.update, 0) / self._bound if self._bound else 0.0
        return max(by_count, self.window.progress(self.spent))

    @property
    def spent(self) -> int:
        """FLOPs so far, summed over ranks. All ranks get the same number and stop at the same update. Collective."""
        self.session.ledger.gather()
        return self.session.ledger.flops

    def updates(self, bound: int | None) -> Iterator[int]:
        """Yield updates from 0 or the latest checkpoint on. A finished stage yields none, because its end is loaded.

        `bound` is the largest number of updates; None leaves the end to the budget.
        """
        session = self.session
        if self.entered:
            raise PluginError("run.updates() can be entered once; use run.stage(name) for a second loop.")
        if bound is None and self.window.end == float("inf"):
            raise PluginError("a stage recipe must bound its updates: run.updates(most=...).")
        self.entered, self._bound = True, bound
        session.outside.end()
        try:
            yield from self._updates()
        finally:
            session.outside.begin()

    def _updates(self) -> Iterator[int]:
        session = self.session
        session.loops += 1
        end = session.path(f"end-{self.stage or 'run'}")
        if end and broadcast(end.exists):
            session.adopt(checkpoint.load(end, session.directory))
            seed_everything(session.seed, self.stage, "end")
            return
        first = self._resume()
        session.ledger.meter.attach_again()
        for thing in session.kept.values():
            if isinstance(thing, nn.Module):
                average_gradients(thing)
        self._saved = time.monotonic()
        yield from self._count(first)
        if end:
            checkpoint.save(end, session.snapshot(self.stage, self.update + 1, self.window), session.still)
        session.tick()
        seed_everything(session.seed, self.stage, "end")

    def _resume(self) -> int:
        """Restore the latest checkpoint if it is of this stage; return the number of the next update."""
        now = self.session.path("now")
        if not now or not broadcast(now.exists):
            return 0
        state = checkpoint.load(now, self.session.directory)
        if state["stage"] != self.stage:
            return 0
        self.session.adopt(state)
        self.window.restore(state["window"])
        return int(state["update"])

    def _count(self, first: int) -> Iterator[int]:
        """Yield the updates that fit into the window; undo one that passes its end nevertheless."""
        session, ledger, window = self.session, self.session.ledger, self.window
        update = first
        while (self._bound is None or update < self._bound) and window.allows(self.spent):
            undo = None  # freed before the next one is made, so that there is one copy of all weights at a time
            if window.is_near(ledger.flops):
                undo = session.undo(self.stage, update, window)
            before = ledger.flops
            self.update, self.draws = update, 0
            session.begun += 1
            session.stage = self.stage
            seed_everything(session.seed, self.stage, update)
            ledger.meter.in_loop = True
            try:
                yield from self._audited(update)
            finally:
                ledger.meter.in_loop = False
            ledger.updates += 1
            if self.spent > window.end:
                self._discard(undo, ledger.flops - before, update)
                return
            window.costs.append(ledger.flops - before)
            update += 1
            self._boundary(update)
        if not window.costs and not update:
            raise BudgetError(self._too_small(0))

    def _audited(self, update: int) -> Iterator[int]:
        """Yield the update; audit the meter by an exact count if it is the first update or one that the seed draws."""
        session = self.session
        drawn = random.Random(derive(session.seed, self.stage, update, "audit")).random() < session.audited
        if not (drawn or (update == 0 and session.audited)):
            yield update
            return
        ledger = session.ledger
        before = ledger.metered_here
        with ExactCounter() as counter:
            yield update
        if counter.failed:
            ledger.flag(f"an update could not be audited: {counter.failed}")
            return
        ledger.audit_charged += ledger.metered_here - before
        ledger.audit_counted += counter.total

    def _boundary(self, update: int) -> None:
        """Take a checkpoint if it is time. The update before is audited, charged and final."""
        session, now = self.session, self.session.path("now")
        optimizers = (thing for thing in session.kept.values() if isinstance(thing, torch.optim.Optimizer))
        session.ledger.note_models(session.ledger.meter.modules, optimizers)
        for note in session.ledger.meter.notes:
            session.ledger.flag(note)
        if session.at_boundary:
            session.at_boundary(session)
        if now and broadcast(lambda: time.monotonic() - self._saved >= self._pause):
            began = time.monotonic()
            checkpoint.save(now, session.snapshot(self.stage, update, self.window), session.still)
            self._saved = time.monotonic()
            self._took = self._saved - began

    @property
    def _pause(self) -> float:
        """Seconds from one checkpoint to the next; 0 asks for one after every update, whatever that takes."""
        asked, took = self.session.checkpoint_seconds, self._took
        if took is None:
            took = self.session.ledger.training_bytes / WRITTEN
        return max(float(asked), took / CHECKPOINTS) if asked else 0.0

    def _discard(self, undo: dict[str, Any] | None, cost: int, update: int) -> None:
        """Restore the state before the update; flag the run as overspent if that is not possible."""
        ledger = self.session.ledger
        if undo is None:
            ledger.flag("overspent: an update cost more than four times the dearest of the eight before it")
            return
        self.session.adopt(undo)
        self.update = update - 1
        if update == 0:
            raise BudgetError(self._too_small(cost))
        ledger.flag("the last update was discarded: it would have passed the budget")

    def _too_small(self, cost: int) -> str:
        left = self.window.end - self.window.start
        stage = f" of stage {self.stage!r}" if self.stage else ""
        return (
            f"the budget is too small for one update{stage}: {left:.3g} FLOPs are left for it and one update costs "
            f"{cost:.3g}. Raise the budget, or lower batch_size or response_tokens."
        )
