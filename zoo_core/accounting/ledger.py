"""The ledger: everything a run cost. It is part of every checkpoint, so no unit is lost or counted twice."""

import resource
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from zoo_core.accounting.meter import Meter
from zoo_core.compute.processes import all_gather, world_size
from zoo_core.compute.sharding import local_shard

SUMS = ("declared", "audit_charged", "audit_counted")
MAXIMA = ("peak_memory_bytes", "parameter_bytes", "training_bytes")
"""What several processes add up, and of what the largest counts."""
NOT_KEPT = ("meter", "rows", "gathered", "elsewhere")
"""What is no part of a checkpoint, or has a form of its own there."""


class LedgerReport(TypedDict):
    """All costs of a run, as a record keeps them."""

    flops: int
    flops_by_role_phase: dict[str, int]
    """By "role/phase"; they sum to `flops`."""
    audit_ratio: float | None
    """FLOPs charged by FLOPs counted, over the audited updates; None if none was audited."""
    rows: dict[str, list[str]]
    """The data rows that were used, by data set."""
    declared: int
    judge_calls: int
    generated_tokens: int
    reward_queries: int
    optimizer_steps: int
    updates: int
    wall_seconds: float
    peak_memory_bytes: int
    parameter_bytes: int
    training_bytes: int
    models_resident: float
    """Bytes of all models in memory by bytes of the policy."""
    flags: list[str]


@dataclass
class Ledger:
    """Costs of one run, from its start to now."""

    meter: Meter = field(default_factory=Meter)
    rows: dict[str, set[str]] = field(default_factory=dict)
    """Rows of each data set that were seen, by where they stand."""
    generated_tokens: int = 0
    """Response tokens sampled, EOS included, padding not."""
    reward_queries: int = 0
    """Responses scored."""
    judge_calls: int = 0
    """Verdicts asked of a judge."""
    optimizer_steps: int = 0
    updates: int = 0
    wall_seconds: float = 0.0
    peak_memory_bytes: int = 0
    policy_bytes: int = 0
    """Weights of the policy as the run found it."""
    parameter_bytes: int = 0
    """Weights of all models at an update's end, at most; memory that models share counts once."""
    training_bytes: int = 0
    """The same with gradients and the optimizers' states."""
    declared: int = 0
    """FLOPs that were declared and not seen by the meter: of a judge elsewhere, of a selection's distances."""
    audit_charged: int = 0
    """FLOPs the meter charged on audited updates ..."""
    audit_counted: int = 0
    """... and what really ran there."""
    flags: list[str] = field(default_factory=list)
    """What a reader of the board should know about this run."""
    gathered: dict[str, Any] = field(default_factory=dict)
    """What was counted when the processes last put their counts together."""
    elsewhere: int = 0
    """FLOPs metered by the other ranks, as of the last `gather`."""

    @property
    def flops(self) -> int:
        """FLOPs of every model, role and phase."""
        return self.meter.total

    @property
    def metered_here(self) -> int:
        """FLOPs that the meter of this process saw."""
        return self.flops - self.declared - self.elsewhere

    def gather(self) -> None:
        """Add what the other ranks counted since the last time, so that all ledgers are equal. Collective.

        FLOPs are sums over the processes; memory is that of the process that took most. Rows, tokens, queries, steps
        and updates are of the whole batch everywhere, and counted once.
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
        """Note something once."""
        if text not in self.flags:
            self.flags.append(text)

    def see(self, kind: str, wheres: Iterable[str]) -> None:
        """Count rows of a data set as used; a preference that is imitated is no demonstration beside it."""
        counted = self.rows.get("preferences", set()) if kind == "demonstrations" else set()
        self.rows.setdefault(kind, set()).update(set(wheres) - counted)

    def declare(self, role: str, flops: int) -> None:
        """Charge what no metered layer computes."""
        self.meter.charge(role, flops)
        self.declared += flops

    def note_memory(self) -> None:
        """Raise the peak: on CUDA what its allocator held, on the CPU the process's resident memory."""
        if torch.cuda.is_available():
            peak = torch.cuda.max_memory_allocated()
        else:
            unit = 1 if sys.platform == "darwin" else 1024
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        self.peak_memory_bytes = max(self.peak_memory_bytes, peak)

    def note_models(self, models: Iterable[nn.Module], optimizers: Iterable[Optimizer]) -> None:
        """Raise what weights, gradients and states of optimizers take."""
        weights = [weight for model in models for weight in model.parameters()]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        moments = [one for optimizer in optimizers for state in optimizer.state.values() for one in state.values()]
        trained = [*weights, *gradients, *(one for one in moments if isinstance(one, Tensor))]
        self.parameter_bytes = max(self.parameter_bytes, bytes_of(weights))
        self.training_bytes = max(self.training_bytes, bytes_of(trained))

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        state = {name: value for name, value in vars(self).items() if name not in NOT_KEPT}
        state["flags"] = list(self.flags)
        state["cells"] = {"/".join(cell): flops for cell, flops in self.meter.cells.items()}
        state["rows"] = {kind: sorted(rows) for kind, rows in self.rows.items()}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a checkpoint's ledger in place of what was counted since the process began."""
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
        """Return the figures of a record; `flops_by_role_phase` sums to `flops`."""
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
    """Memory of tensors on this process, each piece of it once."""
    storages = (local_shard(tensor).untyped_storage() for tensor in tensors)
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
