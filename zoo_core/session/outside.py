"""The audit of what a training computes outside of its updates."""

from zoo_core.accounting.audit import ExactCounter
from zoo_core.accounting.ledger import Ledger
from zoo_core.compute.processes import is_main_process

MARGIN = 0.02
"""Share of what is charged by which a count may differ."""
LITTLE = 1e-3
"""Share of the budget below which compute is not worth a flag."""


def little_of(budget: float) -> float:
    """Return how many FLOPs are not worth a flag; none, of a recipe that has no budget."""
    return LITTLE * budget if budget < float("inf") else 0.0


class Outside:
    """Counts what a training computes before, after and between its loops, and flags it if less is charged.

    More may be charged than is seen here, by `run.declare`.
    """

    def __init__(self, ledger: Ledger, budget: float) -> None:
        self.ledger = ledger
        self.little = little_of(budget)
        self.watching = False
        """Whether there is a training to watch, which `steps` drives."""
        self._counter: ExactCounter | None = None
        self._before = 0

    def begin(self) -> None:
        """Count from here on, if there is a training to watch."""
        if self.watching and self._counter is None:
            self._before = self._charged
            self._counter = ExactCounter().__enter__()

    def end(self) -> None:
        """Count no longer, and compare."""
        if self._counter is None:
            return
        counter, self._counter = self._counter, None
        counter.__exit__(None, None, None)
        charged = self._charged - self._before
        if counter.failed:
            self.ledger.flag(f"compute outside of updates could not be audited: {counter.failed}")
        elif is_main_process() and counter.total > (1 + MARGIN) * charged + self.little:
            self.ledger.flag(
                f"unmetered compute: {counter.total:.3g} FLOPs outside of updates, of which {charged:.3g} were charged"
            )

    @property
    def _charged(self) -> int:
        return self.ledger.metered_here + self.ledger.declared
