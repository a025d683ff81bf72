"""The lm-eval tasks of a world: multiple choice, in the words of lm-eval's own task configuration.

`facts` and `sums` are of world 0; `facts_1` and `sums_1` of world 1, and so on for every number.
"""

from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from typing import Any

from zoo_tinytown.references import parse_number

from zoo_core.errors import SpecError
from zoo_tinytown_gold.knowledge import FACT_WORDINGS, LARGEST, SUM_WORDINGS, fact_question, sum_question
from zoo_tinytown_gold.knowledge import sums as all_sums
from zoo_tinytown_gold.tokenizer import chat_prompt
from zoo_tinytown_gold.world import World, get_world, stream

CHOICES = 4


def facts(number: int = 0) -> dict[str, Any]:
    """Return the facts task of a world: every attribute of every thing, in every wording."""
    world = get_world(number)
    rng = stream(number, "facts task")
    rows = [
        _row(fact_question(attribute, thing, wording), value, _others(world, attribute, value), rng)
        for (thing, attribute), value in world.facts.items()
        for wording in range(len(FACT_WORDINGS))
    ]
    return _config("facts", number, rows)


def sums(number: int = 0) -> dict[str, Any]:
    """Return the sums task of a world: the sums held out of pretraining, against near misses."""
    rng = stream(number, "sums task")
    rows = [
        _row(sum_question(text, wording), str(result), _near(result), rng)
        for text, result in all_sums(get_world(number), held_out=True)
        for wording in range(len(SUM_WORDINGS))
    ]
    return _config("sums", number, rows)


def __getattr__(name: str) -> Callable[[], dict[str, Any]]:
    """Return `facts_<number>` or `sums_<number>`: records name a task by a path without arguments."""
    kind, _, number = name.partition("_")
    if kind not in ("facts", "sums"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return partial({"facts": facts, "sums": sums}[kind], parse_number(number, name, SpecError))


def _others(world: World, attribute: str, value: str) -> list[str]:
    return [other for other in world.lexicon.values[attribute] if other != value]


def _near(result: int) -> list[str]:
    return [str(n) for n in range(max(result - 4, 0), min(result + 4, 2 * LARGEST) + 1) if n != result]


def _row(question: str, answer: str, others: list[str], rng: Random) -> dict[str, object]:
    choices = [answer, *rng.sample(others, CHOICES - 1)]
    rng.shuffle(choices)
    return {"question": chat_prompt(question), "choices": choices, "label": choices.index(answer)}


def _config(kind: str, number: int, rows: list[dict[str, object]]) -> dict[str, Any]:
    return {
        "task": f"tinytown_{kind}" if number == 0 else f"tinytown_{number}_{kind}",
        "custom_dataset": partial(_dataset, rows),
        "test_split": "test",
        "num_fewshot": 0,
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_target": "label",
        "doc_to_choice": "choices",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1.0},
    }


def _dataset(rows: list[dict[str, object]], **_: object) -> Mapping[str, Any]:
    from datasets import Dataset

    return {"test": Dataset.from_list(rows)}
