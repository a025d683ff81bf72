"""Controls learn from what says nothing about what is good; they are shown, not ranked, and a gain of one is told."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from zoo_harness.controls import longer, noise, shuffled
from zoo_harness.planning.pipeline import Pipeline
from zoo_harness.spec.read import read

from zoo_core.errors import SpecError
from zoo_core.reward import Sample
from zoo_core.rows import Preference

PAIRS = [Preference(f"say {number}", "yes", "no", f"pairs:{number}") for number in range(400)]


def test_length_scores_nothing_but_length() -> None:
    assert longer([Sample("a", "bbb", True), Sample("z", "b", False)]) == [3.0, 1.0]


def test_noise_is_standard_normal_and_the_same_for_the_same_answer() -> None:
    samples = [Sample("say", str(number), True) for number in range(2000)]
    scores = noise(samples)
    assert noise(samples) == scores
    mean = sum(scores) / len(scores)
    # The error of a mean of 2,000 is .022, that of a variance .032.
    assert abs(mean) < 0.1
    assert sum((score - mean) ** 2 for score in scores) / len(scores) == pytest.approx(1.0, abs=0.15)


def test_half_of_the_labels_are_turned_round_and_which_follows_from_the_seed() -> None:
    turned = shuffled(PAIRS, 0)
    assert [(one.prompt, one.where) for one in turned] == [(one.prompt, one.where) for one in PAIRS]
    wrong = sum(one.chosen == "no" for one in turned)
    assert 160 < wrong < 240  # 200 ± 4 times 10
    assert shuffled(PAIRS, 0) == turned
    assert shuffled(PAIRS, 1) != turned


def test_each_control_is_of_the_first_row_that_learns_from_such_a_thing(world: Path, written: dict[str, Any]) -> None:
    rows = Pipeline.of(read(world / "spec.yaml", None, {"controls": True})).rows
    found = {row.name: (row.entry.control, row.reward, row.reference) for row in rows if row.entry.control}
    assert found == {
        "ppo-length": ("length", "zoo_harness.controls:longer", True),
        "ppo-random": ("random", "zoo_harness.controls:noise", True),
        "dpo-shuffled": ("shuffled", None, True),
    }
    assert not [row for row in Pipeline.of(read(world / "spec.yaml", None, {})).rows if row.entry.control]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "dpo", "row": "x", "control": "length"}, "'x' is a control of reward, and dpo learns from none"),
        ({"name": "ppo", "row": "x", "control": "shuffled"}, "'x' is a control of preferences, and ppo learns from"),
        ({"name": "ppo", "row": "x", "control": "length", "reward": "judge:share_of_a"}, "a reward and a control"),
        ({"name": "ppo", "row": "x", "control": "colour"}, "control"),
    ],
)
def test_a_control_that_cannot_be_is_refused(world: Path, entry: dict[str, str], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Pipeline.of(read(world / "spec.yaml", None, {"algorithms": [entry]}))


def test_a_bench_with_controls_shows_them_and_what_they_gained(
    world: Path, written: dict[str, Any], zoo: Any, tmp_path: Path
) -> None:
    values = {**written, "algorithms": ["dpo", {"name": "ppo", "batch_size": 12, "epochs": 1}], "references": False}
    for key in ("base", "demonstrations", "preferences", "prompts"):
        values[key] = str(world / values[key])
    values |= {"tasks": [], "seeds": 2, "budget": 2e9}
    (tmp_path / "judge.py").write_text((world / "judge.py").read_text())
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(values))
    done = zoo("bench", "spec.yaml", "--controls", "--output", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    board = json.loads((tmp_path / "run" / "leaderboard.json").read_text())
    rows = {row["row"]: row for row in board["rows"]}
    controls = {"ppo-length", "ppo-random", "dpo-shuffled"}
    assert {name for name, row in rows.items() if row["control"]} == controls
    assert all(rows[name]["status"] == "reference" for name in controls)
    assert not any("own objective" in flag for name in controls for flag in rows[name]["flags"])
    notes = [note for note in board["conditional_notes"] if "ontrol" in note]
    gained = {name for name in controls if (rows[name]["gold_delta_start"]["low"] or 0) > 0}
    assert len(notes) == max(1, len(gained))
    # A policy of dpo-shuffled is none of dpo: the labels were others.
    assert rows["dpo-shuffled"]["weights_sha256"] != rows["dpo"]["weights_sha256"]
    assert rows["ppo-length"]["length"]["mean"] >= rows["ppo-random"]["length"]["mean"] - 1
