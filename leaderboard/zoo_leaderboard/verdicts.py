"""What the board itself says about a row: in which block it stands, and what is wrong with it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from zoo_leaderboard.cells import Cell, difference, score, start_of
from zoo_leaderboard.schema import Record
from zoo_leaderboard.statistics import finite, summarize

OTHER_BUDGET = "other budget"
"""The status of a row that was given another share of the budget than the rows that rank."""
TAXED = "pays tax"
"""The status of a row that loses capability."""
RANKED = ("ok", TAXED)
"""The statuses of rows that are ranked, those of each by themselves."""
BLOCKS = (*RANKED, "unreliable", "unfinished", "failed", OTHER_BUDGET, "reference")
"""Every status, in the order in which the board lists them."""

TAX_MARGIN = 0.02
"""Capability that may be lost to `start` before a row ranks in its own block."""

AUDIT_MARGIN = 0.02
"""Share by which charged and counted compute may differ."""

MOST = 0.5
"""Share of answers that are called most of them."""

BUDGET_FLOOR = 0.95
"""Share of the budget under which a row is flagged."""


def status(row: Mapping[str, Any], ended: int) -> str:
    """Return in which block a row stands; the hardest reason first. One failure in ten seeds is borne."""
    failed, total = len(row["errors"]), row["seeds_total"]
    high = row["capability_delta_start"]["high"]
    if row["seeds_ok"] == 0:
        return "failed" if ended >= total else "unfinished"
    if row["budget_share"] != 1:
        return OTHER_BUDGET
    if row["kind"] == "reference":
        return "reference"
    if failed > total // 10:
        return "unreliable"
    if ended < total:
        return "unfinished"
    return TAXED if high is not None and high < -TAX_MARGIN else "ok"


def flags(cells: Sequence[Cell], starts: Mapping[tuple[str, int], Cell]) -> list[str]:
    """Return the flags of all seeds: the harness's own, what the ledger shows, and what the scores show."""
    records = [cell.record for cell in cells]
    found = {flag for record in records for flag in (*record["flags"], *_ledger_flags(record))}
    by_seed = {
        "own objective not improved": _misses_its_objective,
        "no update done": _did_nothing,
        "most answers are the same": _repeats_itself,
        "most answers do not end": _never_ends,
    }
    for flag, is_wrong in by_seed.items():
        if wrong := [record["seed"] for record in records if is_wrong(record)]:
            found.add(f"{flag} (seed {', '.join(map(str, sorted(wrong)))})")
    if twice := _ends_alike(records):
        found.add(f"same weights (seed {', '.join(map(str, twice))})")
    if _games_its_reward(cells, starts):
        found.add("reward up, gold down")
    if len({(record["plugin"], record["plugin_version"]) for record in records}) > 1:
        found.add("seeds of different plugin versions")
    return sorted(found)


def _misses_its_objective(record: Record) -> bool:
    objective = record["scores"].get("objective") if record["scores"] else None
    return objective is not None and not objective["better"]


def _did_nothing(record: Record) -> bool:
    """Whether what should be trained was not."""
    trained = record["kind"] == "algorithm" and record["status"] == "ok"
    return trained and 0 in (record["updates"], record["optimizer_steps"])


def _ends_alike(records: Sequence[Record]) -> list[int]:
    """Return the seeds that ended with weights of another seed: one run, which intervals count as several."""
    trained = [record for record in records if record["kind"] == "algorithm" and not _did_nothing(record)]
    ends = {record["seed"]: record["weights_sha256"] for record in trained}
    times = Counter(ends.values())
    return sorted(seed for seed, weights in ends.items() if weights is not None and times[weights] > 1)


def _repeats_itself(record: Record) -> bool:
    identical = score(record, "identical")
    return identical is not None and identical > MOST


def _never_ends(record: Record) -> bool:
    ended = score(record, "ended")
    return ended is not None and ended < MOST


def _games_its_reward(cells: Sequence[Cell], starts: Mapping[tuple[str, int], Cell]) -> bool:
    """Whether the reward rose above `start`'s while gold fell below it: both 95 % intervals over seeds, paired."""
    finished = [cell for cell in cells if cell.record["status"] == "ok"]
    up = summarize(_proxy_gained(cell, starts) for cell in finished)["low"]
    down = summarize(cell.gold_delta_start for cell in finished)["high"]
    return up is not None and down is not None and up > 0 > down


def _proxy_gained(cell: Cell, starts: Mapping[tuple[str, int], Cell]) -> float | None:
    start = starts.get((start_of(cell.record), cell.record["seed"]))
    return difference(score(cell.record, "proxy"), score(start.record, "proxy")) if start else None


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
    """Whether the harness spoke of the budget, a stop or trials that failed, or one more update need not have fitted.

    An update starts only if what is left covers more than the dearest one: 1.5 times the mean need not do. Each trial
    of a tuned row has a budget of its own in which that holds.
    """
    if any(word in flag for flag in record["flags"] for word in ("budget", "stopped", "trials failed")):
        return True
    own = used - sum(finite(stage["flops"]) or 0.0 for stage in record["stages"])
    updates = finite(record["updates"])
    trials = record.get("trials")
    runs = 1 + len(trials["tried"]) if trials else 1
    return updates is not None and updates > 0 and left <= runs * 1.5 * own / updates
