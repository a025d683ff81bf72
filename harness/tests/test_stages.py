"""What stands before rows: pairs that the bench makes, a judge of held-out pairs, rewards and recipes of one's own."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import yaml
from zoo_harness.jobs.label_pairs import labelled
from zoo_harness.jobs.materials import Materials
from zoo_harness.planning.pipeline import Pipeline
from zoo_harness.spec.read import read
from zoo_harness.spec.schema import FOR_ALGORITHMS, FOR_GOLD, LabelPairs, Spec

from zoo_core.datasets.splits import split_of
from zoo_core.errors import DataError, SpecError
from zoo_core.run import Run
from zoo_core.testing.tiny import share_of_a, tiny_session

GOLD = "judge:share_of_a"


def bench_of(zoo: Any, world: Path, folder: Path, changes: dict[str, Any], written: dict[str, Any]) -> Path:
    """Run a bench of the tests' world with some keys of its spec changed; return its folder."""
    spec = world / f"{folder.name}.yaml"
    spec.write_text(yaml.safe_dump({**written, "tasks": [], "seeds": 1, **changes}))
    done = zoo("bench", spec, "--output", folder, cwd=folder.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def records_of(folder: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in (folder / "records").glob("*.json")]
    return {record["row"]: record for record in found}


def payloads(folder: Path) -> dict[str, dict[str, Any]]:
    jobs = [json.loads(path.read_text()) for path in folder.glob("cells/*/job.json")]
    return {job["row"]: job["payload"] for job in jobs}


@pytest.fixture(scope="module")
def made(zoo, world, written, tmp_path_factory) -> Path:
    """A bench that makes its own pairs, with a row that learns from the hidden judge itself."""
    rows = ["dpo", "ppo", {"name": "ppo", "row": "ppo-on-gold", "reward": GOLD, "reference": True}]
    changes = {
        "preferences": {"annotator": GOLD, "pairs": 24, "flips": 0.25},
        "algorithms": [{"name": row} if isinstance(row, str) else row for row in rows],
        "stages": {"reward-model": {"epochs": 1.0}},
    }
    return bench_of(zoo, world, tmp_path_factory.mktemp("made") / "made", changes, written)


def test_pairs_that_a_bench_makes_are_the_same_for_all_and_counted_as_labels(made):
    records, cells = records_of(made), payloads(made)
    for row in ("dpo", "ppo", "sft-chosen"):
        assert records[row]["labels"]["preferences"] == 24, row
    assert len({payload["pairs"] for payload in cells.values()}) == 1
    rows = (Path(cells["dpo"]["pairs"]) / "pairs.jsonl").read_text().splitlines()
    assert len(rows) == 24
    assert [stage["name"] for stage in records["dpo"]["stages"]] == ["sft", "pairs"]
    assert [stage["name"] for stage in records["ppo"]["stages"]] == ["sft", "pairs", "reward-model", "calibration"]
    assert records["dpo"]["generated_tokens"] > 0, "what was sampled is charged to those who learn from it"


def test_the_annotator_is_hidden_from_all_but_the_row_that_is_given_it(made):
    for row, payload in payloads(made).items():
        assert (GOLD in json.dumps(payload)) == (row == "ppo-on-gold"), row


def test_a_reference_row_with_a_reward_of_its_own_is_charged_for_that_and_not_ranked(made):
    record = records_of(made)["ppo-on-gold"]
    assert (record["kind"], record["reward"]) == ("reference", GOLD)
    assert [stage["name"] for stage in record["stages"]] == ["sft", "calibration"]
    assert record["labels"]["preferences"] == 0


def test_the_recipe_of_a_stage_can_be_changed(made):
    stage = Path(payloads(made)["ppo"]["reward_model"]).parent
    # one pass over 24 pairs, 16 an update: 2 updates
    ledger = json.loads((stage / "result.json").read_text())["ledger"]
    recipe = json.loads((stage / "job.json").read_text())["payload"]["settings"]
    assert recipe["epochs"] == 1.0
    assert ledger["updates"] <= 2


@pytest.fixture(scope="module")
def judged(zoo, world, written, tmp_path_factory) -> Path:
    """A bench without a gold scorer."""
    changes = {"gold": "preferences", "algorithms": ["dpo"], "limits": {"demonstrations": 64}}
    return bench_of(zoo, world, tmp_path_factory.mktemp("judged") / "judged", changes, written)


def test_a_judge_from_held_out_pairs_scores_all_and_its_accuracy_is_told(judged):
    records = records_of(judged)
    assert all(record["scores"]["gold"] is not None for record in records.values())
    accuracy = records["start"]["scores"]["pair_accuracy"]
    assert accuracy["gold"]["accuracy"] > 0.5 < accuracy["proxy"]["accuracy"]
    board = json.loads((judged / "leaderboard.json").read_text())
    assert board["headline"] == "win_start"
    assert any(
        note.startswith("Agreement with the labels of pairs it was not trained on: gold")
        for note in board["conditional_notes"]
    )
    assert all(row["labels"]["preferences"] < 80 for row in board["rows"] if row["row"] == "dpo")


def test_the_judges_pairs_share_no_first_turn_with_those_that_algorithms_see(world):
    spec = read(world / "spec.yaml", None, {"gold": "preferences", "limits": {"preference_labels": None}})
    for seed in (0, 1):
        mine = Materials(spec, half=FOR_ALGORITHMS).rows("preferences", seed)
        judges = Materials(spec, half=FOR_GOLD).rows("preferences", seed)
        turns = [{row.prompt[0]["content"] for row in rows} for rows in (mine, judges)]
        assert turns[0] & turns[1] == set()
        assert min(len(rows) for rows in (mine, judges)) > 30
        assert all(split_of(row.prompt, seed) == "train" for row in (*mine, *judges))


def pairs_of(wanted: LabelPairs, annotator: Any = share_of_a) -> list[dict[str, Any]]:
    return list(islice(labelled(Run(tiny_session(["prompts"], budget=float("inf"))), wanted, annotator), wanted.pairs))


def test_an_annotator_who_never_slips_prefers_what_scores_higher():
    for pair in pairs_of(LabelPairs(annotator=GOLD, pairs=40)):
        chosen, rejected = (pair[side][0]["content"] for side in ("chosen", "rejected"))
        assert chosen.count("a") / len(chosen) > rejected.count("a") / len(rejected)


def test_so_many_labels_are_flipped_as_was_asked_for():
    true, slipped = (pairs_of(LabelPairs(annotator=GOLD, pairs=200, flips=flips)) for flips in (0.0, 0.3))
    flipped = [one["chosen"] == other["rejected"] for one, other in zip(true, slipped, strict=True)]
    kept = [one == other for one, other in zip(true, slipped, strict=True)]
    assert sum(flipped) + sum(kept) == 200
    assert 40 <= sum(flipped) <= 80  # 60 expected, sd 6.5


def test_an_annotator_who_cannot_tell_samples_apart_is_a_users_mistake():
    with pytest.raises(DataError, match=r"the annotator 'judge:share_of_a' could tell only 0 apart"):
        pairs_of(LabelPairs(annotator=GOLD, pairs=10), lambda samples: [1.0] * len(samples))


def spec_of(world: Path, **changes: Any) -> Spec:
    return read(world / "spec.yaml", None, changes)


def test_pairs_that_are_made_and_pairs_held_out_exclude_each_other(world):
    with pytest.raises(SpecError, match="gold: preferences needs pairs that are given"):
        spec_of(world, gold="preferences", preferences={"annotator": GOLD})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"stages": {"reward-modle": {"epochs": 1.0}}},
            r"no stage of this bench is made by 'reward-modle'. Did you",
        ),
        ({"stages": {"reward-model": {"epoch": 1.0}}}, r"reward-model has no setting 'epoch'. Did you mean 'epochs'\?"),
        ({"algorithms": [{"name": "dpo", "reward": GOLD}]}, "'dpo' is given a reward, and dpo learns from none"),
        (
            {"algorithms": [{"name": "dpo", "row": "best-of-3"}]},
            "cannot be called 'best-of-3': that is a reference",
        ),
    ],
)
def test_wrong_words_about_stages_and_rewards_are_explained(world, changes, message):
    with pytest.raises(SpecError, match=message):
        Pipeline.of(spec_of(world, **changes))


def test_algorithms_that_are_no_rows_by_default_are_left_out_and_references_are_always_there(world):
    rows = {row.name: row for row in Pipeline.of(spec_of(world, algorithms=[])).rows}
    assert {"sft", "dpo", "ppo", "sft-chosen"} <= set(rows)
    assert not {"grpo", "rloo", "reward-model"} & set(rows)
    assert rows["sft-chosen"].reference
    only = Pipeline.of(spec_of(world, algorithms=["dpo"]))
    assert [row.name for row in only.rows] == ["dpo", "sft-chosen"]
    without = Pipeline.of(spec_of(world, algorithms=["sft"], preferences=None, reward=None))
    assert [row.name for row in without.rows] == ["sft"]
