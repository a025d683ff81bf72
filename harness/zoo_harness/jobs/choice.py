"""Which trial of a row was the best, and what all of them cost: read from what their jobs left.

The algorithm learns nothing of it but which of N settings it is trained with.
"""

from collections.abc import Sequence
from typing import Literal, cast

from zoo_core.accounting.report import LedgerReport
from zoo_core.errors import PluginError, ZooError
from zoo_harness.job import Failure, read_json
from zoo_harness.payloads import Candidate, Training
from zoo_harness.results import Begun, Choice, ScoredOnDev, Spent, Trained, Tried

SPENT = "spent.json"
"""What a trial that failed had spent by then: its costs are charged as those of any other."""
NOT_BEGUN = "it has not begun"
"""The reason of a trial that nobody has tried."""
UNKNOWN_COST = "a trial was killed, its compute is not known"
"""A remark for readers of the board."""


def choice_of(payload: Training) -> Choice:
    """Return what each trial was worth, and which is the best by gold (or proxy, where there is no gold) and by proxy.

    Raises `ZooError` where a trial has not begun; where all failed, with the reason of the first: `PluginError` unless
    the user can mend it.
    """
    tried = [tried_of(one) for one in payload.candidates]
    for number, one in enumerate(tried, start=1):
        if one["error"] == NOT_BEGUN:
            raise ZooError(
                f"trial {number} of {len(tried)} has not begun; run the bench again, which does what is missing."
            )
    best = best_of(tried, payload.chosen_by)
    if best is None:
        failure = _failure(payload.candidates[0])
        kind = ZooError if failure is not None and failure["user"] else PluginError
        raise kind(f"all {len(tried)} trials failed; the first: {tried[0]['error']}")
    return {"tried": tried, "chosen": best, "by_proxy": best_of(tried, "proxy")}


def best_of(tried: Sequence[Tried], by: Literal["gold", "proxy"]) -> int | None:
    """Return the place of the best trial, the first of equals; None if none is worth anything."""
    worth = {place: value for place, one in enumerate(tried) if (value := one[by]) is not None}
    return max(worth, key=lambda place: worth[place], default=None)


def ledgers_of(tried: Sequence[Tried]) -> list[LedgerReport]:
    """Return the costs of all trials whose costs are known."""
    return [ledger for one in tried if (ledger := one["ledger"]) is not None]


def spent_by_trials(choice: Choice | None) -> int:
    """Return the FLOPs that trials spent; 0 where there were none."""
    return sum(ledger["flops"] for ledger in ledgers_of(choice["tried"])) if choice else 0


def remarks_on(choice: Choice) -> list[str]:
    """Return what a reader of the board should know of trials that failed."""
    tried = choice["tried"]
    failed = sum(one["error"] is not None for one in tried)
    found = [f"{failed} of {len(tried)} trials failed"] if failed else []
    return found + [UNKNOWN_COST] * any(one["error"] and one["ledger"] is None for one in tried)


def tried_of(candidate: Candidate) -> Tried:
    """Return what one trial was worth, at the temperature that is best for it, or why it failed."""
    trained = cast(Trained | None, _own(candidate, "result.json"))
    scored = cast(ScoredOnDev | None, _own(candidate, "result.json", of_score=True))
    spent = trained or cast(Spent | None, _own(candidate, SPENT))
    by_temperature = list(scored["by_temperature"].values()) if scored and trained else []
    golds, proxies = [one["gold"] for one in by_temperature], [one["proxy"] for one in by_temperature]
    return {
        "settings": candidate.settings,
        "gold": max((gold for gold in golds if gold is not None), default=None),
        "proxy": max((proxy for proxy in proxies if proxy is not None), default=None),
        "error": None if by_temperature else _reason(candidate, of_score=trained is not None),
        "ledger": spent["ledger"] if spent else None,
    }


def _reason(candidate: Candidate, *, of_score: bool) -> str:
    failure = _failure(candidate)
    if failure is not None:
        return failure["error"]
    if cast(Begun | None, _own(candidate, "begun.json", of_score=of_score)) is None:
        return NOT_BEGUN
    return "its process was killed from outside"


def _failure(candidate: Candidate) -> Failure | None:
    found = _own(candidate, "failure.json") or _own(candidate, "failure.json", of_score=True)
    return cast(Failure | None, found)


def _own(candidate: Candidate, name: str, *, of_score: bool = False) -> dict[str, object] | None:
    """Return what a job of the trial wrote to a file; None for what another job left there."""
    folder, identity = (
        (candidate.score, candidate.score_identity) if of_score else (candidate.training, candidate.training_identity)
    )
    found = read_json(folder / name)
    return found if found and found.get("identity") == identity else None
