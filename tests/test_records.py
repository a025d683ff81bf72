"""Nothing that observers are given can be changed, at any depth."""

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from zoo_core.records import Finished, Progress, Training

TRAINING = {
    "name": "dpo-seed0",
    "row": "dpo",
    "stage": "",
    "seed": 0,
    "algorithm": "dpo",
    "budget": 1e9,
    "identity": "abc",
    "directory": Path(),
    "bench": "quick",
    "output": Path(),
    "tracker": None,
}


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (lambda mapping: Training(**TRAINING, settings=mapping), "settings"),
        (lambda mapping: Progress(update=0, stage="", flops=1, share=None, metrics=mapping), "metrics"),
        (
            lambda mapping: Finished(weights=Path(), weights_sha256="", updates=1, flops=1, ledger=mapping),
            "ledger",
        ),
    ],
    ids=["training", "progress", "finished"],
)
def test_an_observer_can_change_nothing_that_a_training_uses(given, name):
    used = {"beta": 0.1, "rows": {"preferences": ["a:1", "a:2"]}}
    seen = given(used)
    mapping = getattr(seen, name)
    with pytest.raises(FrozenInstanceError):
        setattr(seen, name, {})
    with pytest.raises(TypeError):
        mapping["beta"] = 1.0
    with pytest.raises(TypeError):
        mapping["rows"]["preferences"] = []
    with pytest.raises(AttributeError):
        mapping["rows"]["preferences"].append("a:3")
    assert mapping == {"beta": 0.1, "rows": {"preferences": ("a:1", "a:2")}}


def test_what_a_training_changes_later_is_not_seen():
    """Else a tracker that writes in a thread of its own would write the metrics of another update."""
    metrics = {"loss": 1.0}
    seen = Progress(update=0, stage="", flops=1, share=None, metrics=metrics)
    metrics["loss"] = 2.0
    assert seen.metrics == {"loss": 1.0}
