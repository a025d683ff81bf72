"""A reward reads the other columns of a data row, wherever a bench scores answers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from zoo_harness.executors.inline import Inline
from zoo_harness.jobs.materials import Materials
from zoo_harness.jobs.worker import import_beside
from zoo_harness.planning.pipeline import Pipeline
from zoo_harness.probing import Waiting, probed
from zoo_harness.spec.read import read

from zoo_core.datasets.splits import split_of
from zoo_core.errors import DataError

REWARDS = """
def correct(samples):
    return [float(sample.row["answer"] in sample.response) for sample in samples]

def near(samples):
    return [sample.response.count(sample.row["answer"]) + len(sample.response) / 100 for sample in samples]
"""


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def asked(row: dict[str, Any]) -> str:
    return str(row["prompt"][0]["content"])


@pytest.fixture(scope="module")
def answers(world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The answer to each prompt of the tests' world: a letter."""
    rows = written_rows(world)
    return {asked(row): "abcdefgh"[number % 8] for number, row in enumerate(rows)}


def written_rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "prompts.jsonl").read_text().splitlines()]


@pytest.fixture
def own(
    world: Path, answers: dict[str, str], written: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """Write the world again with answers beside the prompts; return a function that writes a spec."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("base", "demos.jsonl", "pairs.jsonl"):
        (tmp_path / name).symlink_to(world / name)
    rows = [{**row, "answer": answers[asked(row)]} for row in written_rows(world)]
    write_rows(tmp_path / "prompts.jsonl", rows)
    (tmp_path / "rewards.py").write_text(REWARDS)

    def spec(**changes: Any) -> Path:
        rewards = {"reward": "rewards:correct", "gold": "rewards:correct"}
        (tmp_path / "spec.yaml").write_text(yaml.safe_dump({**written, "tasks": [], "seeds": 1, **rewards, **changes}))
        return tmp_path / "spec.yaml"

    return spec


def check(spec: Path, folder: Path) -> dict[str, Any]:
    """Do what `zoo bench` does before it trains, in this process."""
    opened = read(spec, None, {})
    import_beside(opened)
    return probed(Pipeline.of(opened), folder / "probe", Inline(), lambda device: 1, Waiting())[1]


def test_the_scores_of_a_bench_are_the_share_of_right_answers_and_proxy_is_that_in_units_of_the_start(
    zoo, own, answers, tmp_path
):
    spec = own(algorithms=[{"name": "ppo", "batch_size": 12}, {"name": "rloo", "batch_size": 8}])
    done = zoo("bench", spec, "--output", tmp_path / "bench", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    records = [json.loads(path.read_text()) for path in (tmp_path / "bench" / "records").glob("*.json")]
    assert {"ppo", "rloo", "start", "best-of-4"} <= {record["row"] for record in records}
    payloads = [json.loads(path.read_text())["payload"] for path in (tmp_path / "bench").glob("cells/*/job.json")]
    (calibration,) = {payload["calibration"] for payload in payloads if payload.get("calibration")}
    unit = json.loads((Path(calibration) / "calibration.json").read_text())
    for record in records:
        right = [float(answers[item["prompt"].removeprefix("user: ")] in item["response"]) for item in record["items"]]
        share = sum(right) / len(right)
        assert [item["gold"] for item in record["items"]] == right
        assert record["scores"]["gold"] == pytest.approx(share)
        assert record["scores"]["proxy"] == pytest.approx((share - unit["mean"]) / unit["deviation"])
        # The pairs have no answers, so the agreement with their labels is not measured.
        assert not record["scores"].get("pair_accuracy")
    assert 0 < sum(record["scores"]["gold"] for record in records) < len(records)


def test_good_answers_pass_and_all_that_a_reward_would_miss_is_told_before_training(own, tmp_path):
    def with_rows(change: Callable[[list[dict[str, Any]]], object]) -> Path:
        rows = written_rows(tmp_path)
        change(rows)
        write_rows(tmp_path / "other.jsonl", rows)
        return own(prompts="other.jsonl", algorithms=["rloo"])

    check(own(algorithms=["rloo"]), tmp_path)
    line = 1 + next(n for n, row in enumerate(written_rows(tmp_path)) if split_of(row["prompt"], 0) == "train")
    missing = rf"other.jsonl:{line}: a reward reads 'answer', which the row does not have. It has: prompt"
    with pytest.raises(DataError, match=missing):
        check(with_rows(lambda rows: rows[line - 1].pop("answer")), tmp_path)
    test = next(row for row in written_rows(tmp_path) if split_of(row["prompt"], 0) == "test")
    with pytest.raises(DataError, match=r"have the same prompt and differ in 'answer'.*keep one of the rows"):
        check(with_rows(lambda rows: rows.append({**test, "answer": "z"})), tmp_path)
    train = next(row for row in written_rows(tmp_path) if split_of(row["prompt"], 0) == "train")
    check(with_rows(lambda rows: rows.append({**train, "answer": "z"})), tmp_path)  # each row is asked for itself


def test_pairs_that_a_bench_makes_have_the_columns_of_their_prompts(zoo, own, answers, tmp_path):
    spec = own(
        preferences={"annotator": "rewards:near", "pairs": 16},
        reward="rewards:near",
        algorithms=[{"name": "rrhf", "batch_size": 8, "samples": 2}],
        demonstrations="demos.jsonl",
    )
    done = zoo("bench", spec, "--output", tmp_path / "bench", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (start,) = (tmp_path / "bench" / "records").glob("start-*.json")
    # Its annotator is the reward, so that the two agree about all pairs that were held out.
    assert json.loads(start.read_text())["scores"]["pair_accuracy"]["proxy"]["accuracy"] == 1.0
    payloads = [json.loads(path.read_text())["payload"] for path in (tmp_path / "bench").glob("cells/*/job.json")]
    (folder,) = {payload["pairs"] for payload in payloads if payload.get("pairs")}
    rows = Materials(read(spec, None, {}), pairs=Path(folder)).rows("preferences", 0)
    assert len(rows) == 16
    assert all(row.columns["answer"] == answers[row.prompt[0]["content"]] for row in rows)  # type: ignore[index]
