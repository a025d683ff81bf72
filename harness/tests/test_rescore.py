"""Laws of scoring published weights again: how far a score may be from the published one."""

from typing import Any

import pytest
from zoo_harness.rescore import SAME, _compared

HERE = {"cpu_capability": "AVX512"}
GOLDS = [0.0, 1.0, 0.0, 1.0]


def scored(gold: float) -> dict[str, Any]:
    items = [{"gold": value, "proxy": None} for value in GOLDS]
    return {"items": items, "scores": {"gold": gold}, "weights_sha256": "aa"}


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
