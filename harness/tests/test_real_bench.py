"""The whole bench on real input: a base trained on real text, human preference pairs, a scorer of another tokenizer."""

import json
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
REAL = HERE.parents[2] / "shared" / "data" / "real"
pytestmark = [
    pytest.mark.skipif(not REAL.is_dir(), reason="the folder ../shared/data/real with the real data is not here"),
    pytest.mark.slow,
    pytest.mark.timeout(600),  # seconds for a hanging bench; a quiet machine takes about 100
]


def board_of(zoo: Any, spec: str, folder: Path) -> dict[str, dict[str, Any]]:
    done = zoo("bench", HERE / "real" / f"{spec}.yaml", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    board = json.loads((folder / "zoo-runs" / spec / "leaderboard.json").read_text())
    return {row["row"]: row for row in board["rows"]}


def test_sft_dpo_and_ppo_with_a_reward_model_trained_on_human_pairs(zoo, tmp_path):
    rows = board_of(zoo, "harmless", tmp_path)
    assert set(rows) == {"sft", "dpo", "ppo", "start", "base"}
    for name in ("sft", "dpo", "ppo"):
        row = rows[name]
        assert row["seeds_ok"] == 1
        assert row["audit_ratio"] == pytest.approx(1.0, abs=0.02)
        assert row["flops_used"] <= row["flops_budget"]
        assert row["headline"]["mean"] is None  # no independent judge was given, and none is pretended
        assert "arithmetic" in row["tasks"]
    assert [stage["name"] for stage in rows["ppo"]["stages"]] == ["sft", "reward-model", "calibration"]


def test_ppo_with_a_scorer_of_another_architecture_and_tokenizer(zoo, tmp_path):
    rows = board_of(zoo, "sentiment", tmp_path)
    assert rows["ppo"]["seeds_ok"] == 1
    assert rows["ppo"]["audit_ratio"] == pytest.approx(1.0, abs=0.02)
    assert "reward/score" in rows["ppo"]["flops_by_role_phase"]
    assert [stage["name"] for stage in rows["ppo"]["stages"]] == ["sft", "calibration"]
    assert rows["ppo"]["labels"]["preferences"] == 0
