"""Laws of scoring published weights again: how far a score may be from the published one."""

from typing import Any

import pytest
from zoo_harness.rescore import SAME, _compared

HERE = {"cpu_capability": "AVX512"}
GOLDS = [0.0, 1.0, 0.0, 1.0]


def scored(gold: float, kl: float = 2.0, task: float = 0.5) -> dict[str, Any]:
    items = [{"gold": value, "proxy": None} for value in GOLDS]
    tasks = {"sums": {"score": task, "stderr": 0.03, "chance": 0.0, "n": 100}}
    scores = {"gold": gold, "proxy": None, "kl_start": kl, "length": 7.0, "tasks": tasks}
    return {"items": items, "scores": scores, "weights_sha256": "aa"}


@pytest.mark.parametrize(
    ("environment", "off", "agrees"),
    [(HERE, SAME / 2, True), (HERE, 0.01, False), ({"cpu_capability": "AVX2"}, 0.01, True),
     # the variance of these golds is 1/3: four errors of a difference of means of 4 are 4 sqrt(2/12) = 1.63
     ({"cpu_capability": "AVX2"}, 1.62, True), ({"cpu_capability": "AVX2"}, 1.64, False)],
)  # fmt: skip
def test_in_the_environment_of_its_own_record_a_score_is_the_same_elsewhere_it_differs_by_what_sampling_explains(
    environment: dict[str, str], off: float, agrees: bool
) -> None:
    record = {"row": "dpo", "seed": 3, "kind": "algorithm", "environment": environment, **scored(0.5)}
    assert (_compared(record, scored(0.5 + off), None, HERE).fault is None) == agrees


@pytest.mark.parametrize(
    ("change", "here", "elsewhere"),
    [
        ({"kl": 2.1}, "kl_start is 2.1000, and 2.0000 was published", None),
        # four errors of a difference of two shares with an error of 0.03 each are 0.17
        ({"task": 0.6}, "task sums is 0.6000, and 0.5000 was published", None),
        ({"task": 0.7}, "task sums is 0.7000, and 0.5000 was published", "task sums is 0.7000"),
    ],
)
def test_all_scores_are_compared_as_far_as_their_noise_is_known(
    change: dict[str, float], here: str, elsewhere: str | None
) -> None:
    record = {"row": "dpo", "seed": 3, "kind": "algorithm", "environment": HERE, **scored(0.5)}
    assert _compared(record, scored(0.5, **change), None, HERE).fault == here
    fault = _compared(record, scored(0.5, **change), None, {"cpu_capability": "AVX2"}).fault
    assert (fault or "").startswith(elsewhere or "")
    assert (fault is None) == (elsewhere is None)
