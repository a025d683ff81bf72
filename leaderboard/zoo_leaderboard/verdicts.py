"""What the board itself says about a row: in which block it stands, and what is wrong with it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from zoo_leaderboard.cells import score
from zoo_leaderboard.schema import Record
from zoo_leaderboard.statistics import finite

BLOCKS = ("ok", "pays tax", "unreliable", "unfinished", "failed", "reference")
"""Every status, in the order in which the board lists them; the first two are ranked, each by itself."""

TAX_MARGIN = 0.02
"""Capability that may be lost to `start` before a row ranks in its own block."""

AUDIT_MARGIN = 0.02
"""Share by which charged and counted compute may differ."""

BUDGET_FLOOR = 0.95
"""Share of the budget under which a row is flagged."""


def status(row: Mapping[str, Any], ended: int) -> str:
    """Return in which block a row stands; the hardest reason first. One failure in ten seeds is borne."""
    failed, total = len(row["errors"]), row["seeds_total"]
    high = row["capability_delta_start"]["high"]
    if row["seeds_ok"] == 0:
        return "failed"
    if row["kind"] == "reference":
        return "reference"
    if failed > total // 10:
        return "unreliable"
    if ended < total:
        return "unfinished"
    return "pays tax" if high is not None and high < -TAX_MARGIN else "ok"


def flags(records: Sequence[Record]) -> list[str]:
    """Return the flags of all seeds: the harness's own, and what the ledger shows."""
    found = {flag for record in records for flag in (*record["flags"], *_ledger_flags(record))}
    if worse := [record["seed"] for record in records if _misses_its_objective(record)]:
        found.add(f"own objective not improved (seed {', '.join(map(str, sorted(worse)))})")
    if len({(record["plugin"], record["plugin_version"]) for record in records}) > 1:
        found.add("seeds of different plugin versions")
    return sorted(found)


def _misses_its_objective(record: Record) -> bool:
    objective = record["scores"].get("objective") if record["scores"] else None
    return objective is not None and not objective["better"]


def _ledger_flags(record: Record) -> Iterable[str]:
    """Yield what is wrong with the compute of one record; the harness's word on the budget comes first."""
    audit, kl = finite(record["audit_ratio"]), score(record, "kl_start")
    used, budget = finite(record["flops_used"]), finite(record["flops_budget"])
    if audit is not None and abs(audit - 1) > AUDIT_MARGIN:
        yield "unmetered compute"
    if kl is not None and kl < -1e-6:
        yield "negative KL"
    if used is None or budget is None or record["kind"] == "reference" or record["status"] == "failed":
        return
    if used > budget * (1 + 1e-9):
        yield "over budget"
    elif used < BUDGET_FLOOR * budget and not record["stops_early"] and not _explained(record, used, budget - used):
        yield "budget under-used"


def _explained(record: Record, used: float, left: float) -> bool:
    """Whether the harness spoke of the budget or of a stop, or one more update need not have fitted.

    An update starts only if what is left covers more than the dearest one: 1.5 times the mean need not do.
    """
    if any("budget" in flag or "stopped" in flag for flag in record["flags"]):
        return True
    own = used - sum(finite(stage["flops"]) or 0.0 for stage in record["stages"])
    updates = finite(record["updates"])
    return updates is not None and updates > 0 and left <= 1.5 * own / updates
