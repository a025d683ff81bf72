"""A board in the formats of others is accepted by their own readers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from huggingface_hub.repocard_data import model_index_to_eval_results
from zoo_leaderboard.board import build
from zoo_leaderboard.export import every_eval_ever, model_index

Make = Callable[..., dict[str, Any]]

SCHEMA = Path(__file__).parents[2] / ".eee" / "every_eval_ever" / "schemas" / "eval.schema.json"
"""Of the package every-eval-ever, which wants a newer Python: `.ci/run` unpacks it there."""


@pytest.fixture
def board(make_bench: Make, make_record: Make) -> dict[str, Any]:
    records = [make_record(row, seed, facts=0.5 + 0.02 * seed) for row in ("start", "ppo") for seed in (0, 1)]
    records += [make_record("broken", 0, status="failed", error="no")]
    return build(make_bench(name="my bench/../x", seeds=2), records)  # type: ignore[arg-type]


def test_every_finished_row_is_one_evaluation_log_with_its_intervals(board: dict[str, Any]) -> None:
    found = every_eval_ever(board, "0.1.0", 1_700_000_000)
    assert {log["model_info"]["name"] for log in found.values()} == {"start", "ppo"}
    assert found.keys() == every_eval_ever(board, "0.1.0", 1_800_000_000).keys()  # exported again, the same file
    assert all(path.startswith("data/rlhf-zoo/rlhf-zoo/my-bench-..-x-") for path in found)
    (log,) = (log for log in found.values() if log["model_info"]["name"] == "ppo")
    scores = {one["metric_config"]["metric_id"]: one["score_details"] for one in log["evaluation_results"]}
    facts = scores["rlhf-zoo.task:facts"]
    assert facts["score"] == pytest.approx(0.51)
    # Two seeds, .5 and .52: .51 ± t(.975; 1) · .01 = 12.706 · .01
    interval = facts["uncertainty"]["confidence_interval"]
    assert (interval["lower"], interval["upper"]) == pytest.approx((0.51 - 0.1271, 0.51 + 0.1271), abs=1e-4)


def test_every_eval_ever_accepts_the_logs(board: dict[str, Any]) -> None:
    if not SCHEMA.exists():
        pytest.skip(f"{SCHEMA.parents[2].name}/ is not here: `pip download every-eval-ever` and unpack it there")
    schema = json.loads(SCHEMA.read_text())
    for log in every_eval_ever(board, "0.1.0", 1_700_000_000).values():
        jsonschema.validate(json.loads(json.dumps(log)), schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(log | {"schema_version": 3}, schema)


def test_hugging_face_reads_the_model_index(board: dict[str, Any]) -> None:
    found = model_index(board)
    assert found.keys() == {"start", "ppo"}
    name, results = model_index_to_eval_results(found["ppo"])
    assert name == "my bench/../x: ppo"
    values = {one.metric_type: one.metric_value for one in results}
    assert values["gold"] == 0.5
    assert values["task:facts"] == pytest.approx(0.51)
