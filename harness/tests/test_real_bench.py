"""The whole bench on real input: a base trained on real text, human preference pairs, a scorer of another tokenizer."""

import json
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
REAL = HERE.parents[2] / "shared" / "data" / "real"
ROWS = {"sft", "dpo", "ppo", "rrhf", "raft", "rlaif", "lima", "coreset"}
REFERENCES = {"base", "start", "sft-chosen", "best-of-4"}
pytestmark = [
    pytest.mark.skipif(not REAL.is_dir(), reason="the folder ../shared/data/real with the real data is not here"),
    pytest.mark.slow,
    pytest.mark.timeout(900),  # seconds for a hanging bench; a quiet machine takes about 50
]


def board_of(zoo: Any, spec: str, folder: Path, *flags: object) -> dict[str, Any]:
    done = zoo("bench", HERE / "real" / f"{spec}.yaml", *flags, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    board: dict[str, Any] = json.loads((folder / "zoo-runs" / spec / "leaderboard.json").read_text())
    for row in board["rows"]:
        assert row["seeds_ok"] == 1
        if row["flops_budget"]:
            assert row["audit_ratio"] == pytest.approx(1.0, abs=0.02), row["row"]
            assert row["flops_used"] <= row["flops_budget"], row["row"]
    return {**board, "rows": {row["row"]: row for row in board["rows"]}}


def positive_reviews(folder: Path) -> Path:
    """Demonstrations: the beginnings of positive reviews, and how they go on."""
    texts, prompts = ((REAL / name).read_text().splitlines() for name in ("reviews.jsonl", "review_prompts.jsonl"))
    rows = []
    for text, prompt in zip(map(json.loads, texts), map(json.loads, prompts), strict=True):
        rest = text["text"].removeprefix(prompt["prompt"])
        if text["label"] == 1 and 0 < len(rest.split()) <= 5:  # it fits into response_tokens, EOS and all
            rows.append(json.dumps({"prompt": prompt["prompt"], "completion": rest}))
    path = folder / "positive-reviews.jsonl"
    path.write_text("\n".join(rows))
    return path


def beginning_of(name: str, folder: Path, rows: int) -> Path:
    """The first rows of a file: each is read by the probe and again by each job."""
    path = folder / name
    path.write_text("".join((REAL / name).read_text().splitlines(keepends=True)[:rows]))
    return path


def test_harmlessness_is_judged_by_a_reward_model_of_human_pairs_that_no_row_has_seen(zoo, tmp_path):
    board = board_of(zoo, "harmless", tmp_path)
    rows = board["rows"]
    assert set(rows) == ROWS | REFERENCES
    assert board["headline"] == "win_start"
    assert board["agreement"].keys() == {"gold", "proxy"}
    assert "arithmetic" in rows["rrhf"]["tasks"]
    assert [stage["name"] for stage in rows["ppo"]["stages"]] == ["sft", "reward-model", "calibration"]
    assert rows["rlaif"]["labels"].get("preferences", 0) == 0 < rows["rlaif"]["judge_calls"]
    assert rows["lima"]["stages"] == rows["coreset"]["stages"] == []


def test_controlled_sentiment_gives_all_methods_the_same_labelled_samples(zoo, tmp_path):
    files = ("--prompts", beginning_of("review_prompts.jsonl", tmp_path, 600))
    board = board_of(zoo, "sentiment", tmp_path, "--demonstrations", positive_reviews(tmp_path), *files)
    rows = board["rows"]
    assert set(rows) == ROWS | REFERENCES | {"ppo-on-gold"}
    assert rows["ppo-on-gold"]["status"] == "reference"
    assert rows["ppo-on-gold"]["labels"].get("preferences", 0) == 0
    assert "reward/score" in rows["ppo-on-gold"]["flops_by_role_phase"]
    for name in ("dpo", "ppo", "rrhf", "raft", "sft-chosen"):
        assert "pairs" in [stage["name"] for stage in rows[name]["stages"]], name
        assert 0 < rows[name]["labels"]["preferences"] <= 32, name
