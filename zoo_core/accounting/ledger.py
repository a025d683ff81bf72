"""The ledger: all costs of a run. It is part of every checkpoint, so that no cost is lost or counted twice."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from zoo_core.accounting import memory
from zoo_core.accounting.meter import Meter
from zoo_core.accounting.report import LedgerReport
from zoo_core.compute.processes import all_gather, world_size
from zoo_core.compute.sharding import local_shard

SUMS = ("declared", "audit_charged", "audit_counted")
MAXIMA = ("peak_memory_bytes", "parameter_bytes", "training_bytes")
"""Fields that `gather` sums over ranks, and fields of which it takes the largest."""
NOT_KEPT = ("meter", "rows", "gathered", "elsewhere")
"""Fields that checkpoints do not hold, or hold in another form."""


@dataclass
class Ledger:
    """All costs of one run, from its start to now."""

    meter: Meter = field(default_factory=Meter)
    rows: dict[str, set[str]] = field(default_factory=dict)
    """The rows of each data set that were used, each named by the place it was read from."""
    generated_tokens: int = 0
    """Number of response tokens sampled, with EOS and without padding."""
    reward_queries: int = 0
    """Number of responses scored."""
    judge_calls: int = 0
    """Number of verdicts and texts that a judge was asked for."""
    optimizer_steps: int = 0
    updates: int = 0
    wall_seconds: float = 0.0
    peak_memory_bytes: int = 0
    policy_bytes: int = 0
    """Bytes of the policy's weights at the start of the run."""
    parameter_bytes: int = 0
    """Largest number of bytes of all models' weights at the end of an update; shared memory counts once."""
    training_bytes: int = 0
    """The same with gradients and the states of optimizers."""
    declared: int = 0
    """FLOPs that were declared because the meter cannot see them: a judge on a server, distances of a selection."""
    audit_charged: int = 0
    """FLOPs that the meter charged for audited updates."""
    audit_counted: int = 0
    """FLOPs that the exact counter counted in the same updates."""
    flags: list[str] = field(default_factory=list)
    """Remarks on this run for readers of the board."""
    gathered: dict[str, Any] = field(default_factory=dict)
    """The counts as of the last `gather`."""
    elsewhere: int = 0
    """FLOPs that other ranks metered, as of the last `gather`."""

    @property
    def flops(self) -> int:
        """FLOPs of all models, roles and phases."""
        return self.meter.total

    @property
    def metered_here(self) -> int:
        """FLOPs that the meter of this rank counted."""
        return self.flops - self.declared - self.elsewhere

    def gather(self) -> None:
        """Add the counts of the other ranks since the last call, so that all ledgers are equal. Collective.

        FLOPs are summed over ranks; of memory the maximum is taken. Every rank counts the rows, tokens, queries, steps
        and updates of the whole batch, so these are equal already.
        """
        if world_size() == 1:
            return
        known = self.gathered or {"cells": {}, **dict.fromkeys(SUMS, 0)}
        mine = {name: getattr(self, name) - known[name] for name in SUMS}
        mine["cells"] = {cell: flops - known["cells"].get(cell, 0) for cell, flops in self.meter.cells.items()}
        here = self.metered_here
        found = all_gather((mine, {name: getattr(self, name) for name in MAXIMA}))
        cells = Counter(known["cells"])
        for counted, _ in found:
            cells.update(counted["cells"])
        self.meter.cells.update(cells)
        for name in SUMS:
            setattr(self, name, known[name] + sum(counted[name] for counted, _ in found))
        for name in MAXIMA:
            setattr(self, name, max(largest[name] for _, largest in found))
        self.elsewhere = self.flops - self.declared - here
        self._remember()

    def _remember(self) -> None:
        self.gathered = {"cells": dict(self.meter.cells), **{name: getattr(self, name) for name in SUMS}}

    def flag(self, text: str) -> None:
        """Add a remark, once."""
        if text not in self.flags:
            self.flags.append(text)

    def see(self, kind: str, wheres: Iterable[str]) -> None:
        """Count rows of a data set as used. A pair that is also imitated counts as a preference only."""
        counted = self.rows.get("preferences", set()) if kind == "demonstrations" else set()
        self.rows.setdefault(kind, set()).update(set(wheres) - counted)

    def declare(self, role: str, flops: int) -> None:
        """Charge FLOPs that no metered layer computes."""
        self.meter.charge(role, flops)
        self.declared += flops

    def note_memory(self) -> None:
        """Update the memory peak."""
        self.peak_memory_bytes = max(self.peak_memory_bytes, memory.peak())

    def note_models(self, models: Iterable[nn.Module], optimizers: Iterable[Optimizer]) -> None:
        """Update the peaks of the memory of weights, gradients and states of optimizers."""
        weights = [weight for model in models for weight in model.parameters()]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        moments = [one for optimizer in optimizers for state in optimizer.state.values() for one in state.values()]
        trained = [*weights, *gradients, *(one for one in moments if isinstance(one, Tensor))]
        self.parameter_bytes = max(self.parameter_bytes, bytes_of(weights))
        self.training_bytes = max(self.training_bytes, bytes_of(trained))

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a checkpoint holds."""
        state = {name: value for name, value in vars(self).items() if name not in NOT_KEPT}
        state["flags"] = list(self.flags)
        state["cells"] = {"/".join(cell): flops for cell, flops in self.meter.cells.items()}
        state["rows"] = {kind: sorted(rows) for kind, rows in self.rows.items()}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the ledger of a checkpoint, in place of all that was counted since the process began."""
        for name, value in state.items():
            if name not in ("cells", "rows", "peak_memory_bytes"):
                setattr(self, name, list(value) if name == "flags" else value)
        self.peak_memory_bytes = max(self.peak_memory_bytes, state["peak_memory_bytes"])
        self.rows = {kind: set(rows) for kind, rows in state["rows"].items()}
        self.meter.cells.clear()
        for cell, flops in state["cells"].items():
            role, phase = cell.rsplit("/", 1)
            self.meter.cells[role, phase] = flops
        self.elsewhere = 0
        self._remember()

    def report(self) -> LedgerReport:
        """Return the costs as a record holds them."""
        cells = sorted(("/".join(cell), flops) for cell, flops in self.meter.cells.items())
        return {
            "flops": self.flops,
            "flops_by_role_phase": dict(cells),
            "audit_ratio": self.audit_charged / self.audit_counted if self.audit_counted else None,
            "rows": {kind: sorted(rows) for kind, rows in self.rows.items()},
            "declared": self.declared,
            "judge_calls": self.judge_calls,
            "generated_tokens": self.generated_tokens,
            "reward_queries": self.reward_queries,
            "optimizer_steps": self.optimizer_steps,
            "updates": self.updates,
            "wall_seconds": self.wall_seconds,
            "peak_memory_bytes": self.peak_memory_bytes,
            "parameter_bytes": self.parameter_bytes,
            "training_bytes": self.training_bytes,
            "models_resident": round(self.parameter_bytes / self.policy_bytes, 2) if self.policy_bytes else 0.0,
            "flags": list(self.flags),
        }


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of tensors on this rank; memory that they share counts once."""
    storages = (local_shard(tensor).untyped_storage() for tensor in tensors)
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
