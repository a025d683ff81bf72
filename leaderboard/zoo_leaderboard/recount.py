"""What can be computed of a record again from its answers and its ledger: nothing of it is taken on trust.

Not computed again, because it needs the model: KL, lengths in tokens, tasks, dev prompts, parts of gold. `zoo
leaderboard verify --rescore` does.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

from zoo_leaderboard.cells import START
from zoo_leaderboard.schema import Record
from zoo_leaderboard.scores import Item, Scores

TOLERANCE = 1e-9
"""Relative difference of two numbers that are the same but for the order of a sum."""
_T = TypeVar("_T")


def wrong_in(record: Record, start: Record | None) -> Iterator[str]:
    """Yield what a record claims and its own answers and ledger do not say; `start` is the row it began from."""
    if record["scores"] is not None:
        yield from _wrong_scores(record, record["scores"])
        if start is not None and start is not record:
            yield from _unlike_start(record["scores"], start["scores"])
            yield from _unlike_answers(record["items"], start["items"])
    yield from _wrong_choices(record)
    yield from _wrong_ledger(record)


def of_items(items: Sequence[Item]) -> dict[str, float | None]:
    """Return the scores that answers alone determine: gold, proxy, ended, win_start, distinct, identical."""
    golds, starts = [item["gold"] for item in items], [item["gold_start"] for item in items]
    proxies, proxy_starts = [item["proxy"] for item in items], [item.get("proxy_start") for item in items]
    has_gold = any(gold is not None for gold in golds)
    return {
        "gold": _mean(golds),
        "proxy": _mean(proxies),
        "ended": _mean([None if (end := item.get("ended")) is None else float(end) for item in items]),
        "win_start": _wins(zip(golds, starts, strict=True) if has_gold else zip(proxies, proxy_starts, strict=True)),
        "distinct": distinct(item["response"] for item in items),
        "identical": max(Counter(item["response"] for item in items).values()) / len(items) if items else None,
    }


def distinct(responses: Iterable[str]) -> float:
    """Return distinct word pairs over all word pairs: near 0 when a policy says the same to every prompt."""
    pairs: Counter[tuple[str, str]] = Counter()
    for response in responses:
        pairs.update(pairwise(response.split()))
    return len(pairs) / max(1, pairs.total())


def _wrong_scores(record: Record, scores: Scores) -> Iterator[str]:
    claimed: Mapping[str, object] = {**scores}
    for name, value in of_items(record["items"]).items():
        if not _same(value, claimed.get(name)):
            yield f"scores.{name} is {claimed.get(name)!r}, and its {len(record['items'])} answers give {value!r}"
    if (objective := scores.get("objective")) is not None:
        before, after = objective["before"], objective["after"]
        better = after > before if objective["what"] == "reward" else after < before
        if better != objective["better"]:
            yield f"scores.objective.better is {objective['better']}, and it went from {before:g} to {after:g}"


def _unlike_start(scores: Scores, of_start: Scores | None) -> Iterator[str]:
    """Yield where a row has other tasks or another best gold than `start`, and another objective than its reward's."""
    if of_start is None:
        return
    best = of_start["gold_best"]
    if best is not None and not _same(best, scores["gold_best"]):
        yield f"scores.gold_best is {scores['gold_best']!r}, and `{START}`, with the same prompts, has {best!r}"
    for task in sorted(of_start["tasks"].keys() ^ scores["tasks"].keys()):
        yield f"scores.tasks: only one of it and `{START}` has {task}"
    for task in sorted(of_start["tasks"].keys() & scores["tasks"].keys()):
        mine, other = ({**one["tasks"][task], "score": None, "stderr": None} for one in (scores, of_start))
        if mine != other:
            yield f"scores.tasks.{task} has another metric, chance, or number of questions than that of `{START}`"
    objective = scores.get("objective")
    shared = scores["by_temperature"].keys() & of_start["by_temperature"].keys()
    if objective is not None and objective["what"] == "reward" and shared:
        hottest = max(shared, key=float)
        before, after = (one["by_temperature"][hottest]["proxy"] for one in (of_start, scores))
        if not (_same(before, objective["before"]) and _same(after, objective["after"])):
            yield f"scores.objective is not what the reward of by_temperature.{hottest} of it and `{START}` says"


def _unlike_answers(items: Sequence[Item], of_start: Sequence[Item]) -> Iterator[str]:
    """Yield where a row answers other prompts than `start`, or says other scores of it; nothing without its answers."""
    if not of_start:
        return
    for number, (mine, other) in enumerate(zip(items, of_start, strict=False)):
        if mine["prompt"] != other["prompt"]:
            yield f"items[{number}] answers another prompt than that of `{START}`"
            continue
        for name, value in (("gold_start", other["gold"]), ("proxy_start", other["proxy"])):
            if name in mine and not _same(mine.get(name), value):
                yield f"items[{number}].{name} is {mine.get(name)!r}, and `{START}` has {value!r}"
        if (mine.get("ended") is None) != (other.get("ended") is None):
            yield f"items[{number}].ended is known of one of it and `{START}`, and not of the other"
    if len(items) != len(of_start):
        yield f"it has {len(items)} answers, and `{START}` has {len(of_start)}"


def _wrong_choices(record: Record) -> Iterator[str]:
    """Yield where the temperature, or the trial, that was chosen is not the best of those that were tried."""
    scores, trials = record["scores"], record.get("trials")
    if scores is not None and scores["temperature"] is not None:
        temperature = f"{scores['temperature']:g}"
        worth = {name: (one["gold"], one["proxy"]) for name, one in scores["by_temperature"].items()}
        if not _is_best(temperature, worth):
            yield f"scores.temperature is {temperature}, which is not the best of scores.by_temperature"
    if trials is not None and trials["chosen"] is not None:
        tried = {place: (one["gold"], one["proxy"]) for place, one in enumerate(trials["tried"])}
        if not _is_best(trials["chosen"], tried):
            yield f"trials.chosen is {trials['chosen']}, which is not the best of trials.tried"


def _is_best(chosen: _T, worth: Mapping[_T, tuple[float | None, float | None]]) -> bool:
    """Whether none is worth more than the chosen one, by gold or, where nothing has gold, by proxy."""
    by = 0 if any(gold is not None for gold, _ in worth.values()) else 1
    known = {name: values[by] for name, values in worth.items()}
    best = max((value for value in known.values() if value is not None), default=None)
    return best is None or known.get(chosen) == best


def _wrong_ledger(record: Record) -> Iterator[str]:
    parts = [value for value in record["flops_by_role_phase"].values() if value is not None]
    used = record["flops_used"]
    if used is not None and not _same(float(sum(parts)), float(used)):
        yield f"flops_used is {used!r}, and flops_by_role_phase adds up to {sum(parts)!r}"
    stages = sum(stage["flops"] or 0.0 for stage in record["stages"])
    if used is not None and stages > used * (1 + TOLERANCE):
        yield f"its stages took {stages:g} FLOPs, more than flops_used {used:g}"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _wins(pairs: Iterable[tuple[float | None, float | None]]) -> float | None:
    """Share of prompts answered better than by `start`, ties 1/2."""
    return _mean(
        [
            float(mine > other) + 0.5 * float(mine == other)
            for mine, other in pairs
            if mine is not None and other is not None
        ]
    )


def _same(value: object, other: object) -> bool:
    if isinstance(value, (int, float)) and isinstance(other, (int, float)):
        return math.isclose(value, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return value == other
