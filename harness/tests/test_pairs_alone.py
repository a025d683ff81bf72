"""Pairs are enough: where there are no demonstrations, SFT imitates the chosen answers, and each pair counts once."""

import json
from pathlib import Path

import pytest
import yaml
from zoo_harness.jobs.materials import Materials
from zoo_harness.jobs.objective import ROWS, of_preferences
from zoo_harness.planning.pipeline import Pipeline
from zoo_harness.spec.read import read
from zoo_leaderboard.schema import IMITATES_CHOSEN

from zoo_core.models.loading import load_policy

FIVE_LINES = """
base: {world}/base
preferences: {world}/pairs.jsonl
reward: preferences
algorithms: [sft, {{name: dpo, batch_size: 8}}, {{name: ppo, batch_size: 12}}, {{name: orpo, batch_size: 8}}]
budget: 1e9
"""
SMALL = {
    "seeds": 1,
    "prompt_tokens": 16,
    "response_tokens": 6,
    "limits": {"preference_labels": 32},
    "evaluation": {"dev_prompts": 8, "test_prompts": 8, "curve_prompts": 8, "best_of": [4], "temperatures": [1]},
}


@pytest.fixture(scope="module")
def spec(world, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("pairs") / "alone.yaml"
    file.write_text(FIVE_LINES.format(world=world) + yaml.safe_dump(SMALL))
    return file


def test_demonstrations_are_the_chosen_answers_of_the_pairs_that_a_seed_uses(spec):
    for changes in ({}, {"gold": "preferences"}):
        materials = Materials(read(spec, None, changes), half="algorithms" if changes else None)
        pairs, imitated = (materials.rows(kind, 0) for kind in ("preferences", "demonstrations"))
        assert [(row.prompt, row.completion, row.where) for row in imitated] == [
            (pair.prompt, pair.chosen, pair.where) for pair in pairs
        ]
        assert len(imitated) == 32
    whole, fewer = (
        Materials(read(spec, None, {"limits": {"demonstrations": most}})).rows("demonstrations", 0)
        for most in (None, 5)
    )
    assert fewer == whole[:5]


def test_the_reference_that_would_equal_sft_is_left_out(spec):
    assert [row.name for row in Pipeline.of(read(spec, None, {})).rows] == ["sft", "dpo", "ppo", "orpo"]


def test_pairs_alone_bench_to_the_end_and_plan_and_board_say_what_is_imitated(spec, zoo):
    planned = zoo("plan", spec, "--json", cwd=spec.parent)
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert json.loads(planned.stdout)["warnings"].count(IMITATES_CHOSEN) == 1
    done = zoo("bench", spec, cwd=spec.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = spec.parent / "zoo-runs" / "alone"
    assert json.loads((folder / "leaderboard.json").read_text())["conditional_notes"].count(IMITATES_CHOSEN) == 1
    # ORPO starts from the base, so that is what it is measured against.
    materials = Materials(read(spec, None, {}))
    base, policy = load_policy(materials.base).eval(), load_policy(folder / "cells" / "orpo-seed0" / "final").eval()
    unseen = materials.unseen_pairs(0, ROWS)
    # A search has 8 test prompts, too, and drops points by what is found here.
    assert len(unseen) > SMALL["evaluation"]["test_prompts"]
    expected = of_preferences(policy, base, materials.encoder, unseen)
    assert expected
    found = json.loads((folder / "records" / "orpo-seed0.json").read_text())["scores"]["objective"]
    assert found["after"] == pytest.approx(expected["after"], abs=1e-6)
    for row in ("sft", "dpo", "ppo"):
        record = json.loads((folder / "records" / f"{row}-seed0.json").read_text())
        assert record["status"] == "ok"
        assert record["labels"] == {"demonstrations": 0, "preferences": 32}, row
