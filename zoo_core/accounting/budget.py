"""The rule by which a run stops before it overspends its budget."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any


@dataclass
class BudgetWindow:
    """A part of the budget, in FLOPs, with the costs of the latest updates in it.

    An update starts only if the spent FLOPs plus 1.1 times the dearest of the last 8 updates stay within the window.
    (A prediction by the last update alone overspends in one run of eight.)
    """

    start: int
    """FLOPs in the ledger at which this window begins."""
    end: float
    """FLOPs in the ledger at which this window ends; infinite for a recipe of fixed length."""
    costs: deque[int] = field(default_factory=lambda: deque(maxlen=8))

    def allows(self, spent: int) -> bool:
        """Return whether one more update fits."""
        return spent + 1.1 * max(self.costs, default=0) <= self.end and spent < self.end

    def is_near(self, spent: int) -> bool:
        """Return whether an allowed update might still pass the end of the window and must be undone then."""
        return not self.costs or spent + 4 * max(self.costs) > self.end

    def progress(self, spent: int) -> float:
        """Return the progress through this window, from 0 to 1."""
        whole = self.end - self.start
        return min(1.0, (spent - self.start) / whole) if 0 < whole < float("inf") else 0.0

    def state(self) -> dict[str, Any]:
        """Return the state that a checkpoint holds."""
        return {"start": self.start, "costs": list(self.costs)}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the state that a checkpoint holds."""
        self.costs = deque(state["costs"], maxlen=8)
