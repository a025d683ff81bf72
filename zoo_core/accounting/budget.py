"""When a run may go on: the rule that never overspends."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any


@dataclass
class BudgetWindow:
    """A part of the budget, in FLOPs, and the cost of the latest updates under it.

    An update starts only if the spent FLOPs and 1.1 times the dearest of the last 8 updates stay within the line.
    (Predicting by the last update alone overspends one run in eight.)
    """

    start: int
    """FLOPs in the ledger where this part begins."""
    end: float
    """FLOPs in the ledger that it must not pass; infinite for a recipe of fixed length."""
    costs: deque[int] = field(default_factory=lambda: deque(maxlen=8))

    def allows(self, spent: int) -> bool:
        """Whether one more update fits."""
        return spent + 1.1 * max(self.costs, default=0) <= self.end and spent < self.end

    def is_near(self, spent: int) -> bool:
        """Whether the next update could pass the line although it is allowed; then it must be possible to undo it."""
        return not self.costs or spent + 4 * max(self.costs) > self.end

    def progress(self, spent: int) -> float:
        """0 at the start of this part, 1 at its end."""
        whole = self.end - self.start
        return min(1.0, (spent - self.start) / whole) if 0 < whole < float("inf") else 0.0

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"start": self.start, "costs": list(self.costs)}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint's state."""
        self.costs = deque(state["costs"], maxlen=8)
