"""Other shares of the budget: whole runs of their own, which leave the ordinary rows and their finished work alone."""

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from zoo_harness.job import of_file
from zoo_harness.jobs import train
from zoo_harness.payloads import Training
from zoo_harness.planning.pipeline import Pipeline
from zoo_harness.planning.plan import Plan
from zoo_harness.spec.read import read

from zoo_core import schedule
from zoo_core.errors import SpecError

ANYTHING = {"sha256": ["x"]}
PROBED: Any = {
    "base": {"files": "x"},
    "base_path": "base",
    "costs": defaultdict(lambda: {"processes": 1}),
    "hashes": {},
    "environment": {},
    "data": dict.fromkeys(["demonstrations", "preferences", "prompts", "dev_prompts", "test_prompts"], ANYTHING),
}
BUDGET = 2e9


def pipeline(world: Path, **changes: Any) -> Pipeline:
    return Pipeline.of(read(world / "spec.yaml", None, {"algorithms": ["sft", "dpo"], **changes}))


def jobs(world: Path, **changes: Any) -> dict[str, Any]:
    plan = Plan(pipeline(world, seeds=1, **changes), PROBED, 1e9, Path("out"), Path("cache"))
    return {job.title: job for job in plan.jobs()}


def test_every_algorithm_has_one_more_row_for_each_share_but_one(world: Path) -> None:
    rows = pipeline(world, budgets=["1/4", 1, 4], controls=True).rows
    found = {row.name: (row.entry.budget_share, row.at_share_of) for row in rows}
    others = {name: one for name, one in found.items() if one != (1.0, None)}
    assert others == {
        "sft-0.25x": (0.25, "sft"),
        "sft-4x": (4.0, "sft"),
        "dpo-0.25x": (0.25, "dpo"),
        "dpo-4x": (4.0, "dpo"),
    }
    assert "dpo-shuffled" in found, "a control has none"
    assert "sft-chosen" in found, "a reference row has none"


def test_a_row_of_the_users_own_at_a_share_is_not_added_again(world: Path) -> None:
    mine = {"name": "dpo", "row": "small", "budget_share": "1/4"}
    rows = pipeline(world, algorithms=[{"name": "dpo"}, mine], budgets=[0.25], references=False).rows
    assert [(row.name, row.at_share_of) for row in rows] == [("dpo", None), ("small", "dpo")]
    (alone,) = pipeline(world, algorithms=[{**mine, "beta": 0.5}], references=False).rows
    assert alone.at_share_of is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budgets": [0]}, "budgets: 0 is no share of the budget; write a number above 0, or a fraction"),
        ({"budgets": [-1]}, "budgets: -1 is no share"),
        ({"budgets": ["1/0"]}, "budgets: '1/0' is no share"),
        ({"budgets": ["1/2/4"]}, "budgets: '1/2/4' is no share"),
        ({"budgets": ["many"]}, "budgets: 'many' is no share"),
        ({"budgets": ["inf"]}, "budgets: 'inf' is no share"),
        ({"budgets": [True]}, "budgets: .*is no number"),
        ({"budgets": "1/4"}, r"budgets: write a list of shares of the budget, such as \[1/4, 1, 4\]"),
        ({"budgets": ["1/4", 0.25]}, "budgets: the share 0.25 of the budget stands there twice; leave one of them out"),
        ({"algorithms": [{"name": "dpo", "budget_share": 0}]}, "algorithms.0.budget_share: 0 is no share"),
        (
            {"algorithms": [{"name": "dpo"}, *({"name": "dpo", "row": row, "budget_share": 2} for row in "ab")]},
            "algorithms: 'a' and 'b' are both 'dpo' at 2 of the budget; leave one of them out",
        ),
        (
            {"algorithms": ["dpo", {"name": "sft", "row": "dpo-2x"}], "budgets": [2]},
            "budgets: 'dpo' at 2 of the budget is called 'dpo-2x', and another row .* `row: another-name`",
        ),
        ({"algorithms": [{"name": "dpo", "row": "d" * 63}], "budgets": [2]}, "budgets: the row name .* is too long"),
    ],
)
def test_a_share_that_cannot_be_is_refused_with_the_remedy(world: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        pipeline(world, **changes)


def test_ordinary_rows_keep_their_identities_and_others_have_their_share_in_theirs(world: Path) -> None:
    before, after = jobs(world), jobs(world, budgets=[0.25, 4])
    assert {title: after[title].identity for title in before} == {title: one.identity for title, one in before.items()}
    assert {title: after[title].payload for title in before if not title.startswith("score")} == {
        title: one.payload for title, one in before.items() if not title.startswith("score")
    }
    cells = [after[name] for name in ("dpo", "dpo-0.25x", "dpo-4x")]
    assert len({cell.identity for cell in cells}) == 3
    given = [Training.of(cell.payload) for cell in cells]
    assert [(one.budget, one.budget_share) for one in given] == [(1e9, 1.0), (0.25e9, 0.25), (4e9, 4.0)]
    assert len({tuple(one.stages) for one in given}) == 1, "each is charged for the same stages, in full"


@pytest.fixture(scope="module")
def benches(
    world: Path, written: dict[str, Any], zoo: Any, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, Any]]:
    """A bench, the same grown by other shares, and one of a quarter of the budget that knows nothing of the first."""
    folder = tmp_path_factory.mktemp("budgets")
    values = {**written, "algorithms": ["sft", {"name": "dpo", "batch_size": 8}], "references": False, "tasks": []}
    for key in ("base", "demonstrations", "preferences", "prompts"):
        values[key] = str(world / values[key])
    values |= {"seeds": 1, "budget": BUDGET, "evaluation": {**values["evaluation"], "best_of": []}}
    (folder / "judge.py").write_text((world / "judge.py").read_text())
    (folder / "spec.yaml").write_text(yaml.safe_dump(values))
    found = {}

    def bench(name: str, output: str, *words: str, **extra: str) -> None:
        done = zoo("bench", "spec.yaml", "--output", output, *words, cwd=folder, **extra)
        weights = {path.parent.name: path.read_bytes() for path in (folder / output).glob("cells/*/begun.json")}
        found[name] = folder / output, (done, weights)

    bench("first", "run")
    bench("grown", "run", "--budgets", "1/4,1/100")
    bench("quarter", "quarter", "--budget", str(BUDGET / 4), ZOO_CACHE=str(folder / "own-cache"))
    assert found["first"][1][0].returncode == found["quarter"][1][0].returncode == 0, found
    return found


def record(folder: Path, row: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "records" / f"{row}-seed0.json").read_text())
    return found


def test_a_finished_bench_that_grows_by_budgets_trains_no_ordinary_row_again(benches: Any) -> None:
    (_, (_, before)), (_, (_, after)) = benches["first"], benches["grown"]
    assert set(before) == {"sft-seed0", "dpo-seed0"}
    assert {name: after[name] for name in before} == before
    assert {"sft-0.25x-seed0", "dpo-0.25x-seed0"} <= set(after)


def test_a_row_at_a_quarter_is_the_run_of_a_bench_of_a_quarter_of_the_budget(benches: Any) -> None:
    (grown, _), (quarter, _) = benches["grown"], benches["quarter"]
    for row in ("sft", "dpo"):
        mine, other, whole = record(grown, f"{row}-0.25x"), record(quarter, row), record(grown, row)
        assert mine["cell_id"] == other["cell_id"] != whole["cell_id"]
        assert mine["weights_sha256"] == other["weights_sha256"] != whole["weights_sha256"]
        assert (mine["budget_share"], mine["at_share_of"], mine["flops_budget"]) == (0.25, row, BUDGET / 4)
        assert (whole["budget_share"], whole["at_share_of"], whole["flops_budget"]) == (1.0, None, BUDGET)
        assert mine["stages"] == whole["stages"], "stages are charged in full"
        stages = sum(stage["flops"] for stage in mine["stages"])
        wanted = whole["updates"] * (BUDGET / 4 - stages) / (BUDGET - stages)
        assert mine["updates"] == pytest.approx(wanted, abs=2)
        assert mine["flops_used"] <= BUDGET / 4


@pytest.mark.parametrize("row", ["sft", "dpo"])
def test_the_learning_rate_of_a_quarter_run_ends_at_its_own_end(
    benches: Any, row: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rates, factor = list[float](), schedule.factor

    def seen(progress: float) -> float:
        rates.append(factor(progress))
        return rates[-1]

    monkeypatch.setattr(schedule, "factor", seen)
    folder, _ = benches["grown"]
    job = of_file(folder / "cells" / f"{row}-0.25x-seed0" / "job.json")
    trained = train.run(job.model_copy(update={"directory": tmp_path / "again"}))
    assert trained["weights_sha256"] == record(folder, f"{row}-0.25x")["weights_sha256"]
    assert len(rates) >= trained["ledger"]["updates"] > 10
    assert max(rates) == 1.0
    # The last but one of n updates begins at a progress of about 1 - 2/n, where the rate is 5 * 2/n of its peak.
    assert rates[-1] < 10 / trained["ledger"]["updates"]


def test_a_share_that_a_row_does_not_fit_in_is_told_and_stops_no_other(benches: Any) -> None:
    folder, (done, _) = benches["grown"]
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 2
    assert "note: dpo-0.01x does not fit in this budget: its stages take" in said
    assert "note: the budget of 2e+07 FLOPs is too small for one update of sft-0.01x" in said
    assert "Leave its share out of --budgets" in said
    assert "dpo-0.01x does not fit in this budget: its stages cost" in record(folder, "dpo-0.01x")["error"]
    assert "leave the share 0.01 out of --budgets" in record(folder, "dpo-0.01x")["error"]
    assert "too small for one update" in record(folder, "sft-0.01x")["error"]
    assert all(record(folder, row)["status"] == "ok" for row in ("sft", "dpo", "sft-0.25x", "dpo-0.25x"))


def test_the_board_shows_each_budget_in_a_table_of_its_own(benches: Any, zoo: Callable[..., Any]) -> None:
    folder, (done, _) = benches["grown"]
    board = json.loads((folder / "leaderboard.json").read_text())
    status = {row["row"]: row["status"] for row in board["rows"]}
    assert {name for name, one in status.items() if one == "other budget"} == {"sft-0.25x", "dpo-0.25x"}
    assert (status["sft"], status["dpo"]) == ("ok", "ok")
    curves = {curve["row"]: [point["share"] for point in curve["points"]] for curve in board["budgets"]["curves"]}
    assert curves == {"sft": [0.01, 0.25, 1.0], "dpo": [0.01, 0.25, 1.0]}
    assert "by share of the budget" in done.stdout
    shown = zoo("leaderboard", "show", folder, cwd=folder.parent)
    lines = shown.stdout.partition("by share of the budget")[2].splitlines()
    assert lines[1].split() == ["Row", "1/100", "1/4", "1"]
    packed = zoo("leaderboard", "publish", folder, folder.parent / "bundle", cwd=folder.parent)
    assert packed.returncode == 0, packed.stderr
    assert zoo("leaderboard", "verify", folder.parent / "bundle", cwd=folder.parent).returncode == 0


def test_a_plan_shows_the_budget_of_each_row(benches: Any, zoo: Callable[..., Any], tmp_path: Path) -> None:
    folder, _ = benches["first"]
    words = ("--budgets", "1/4", "--output", tmp_path / "plan")
    done = zoo("plan", folder.parent / "spec.yaml", *words, "--json", cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    rows = {row["row"]: row for row in json.loads(done.stdout)["rows"]}
    assert {name: row["flops"] for name, row in rows.items()} == {
        "sft": BUDGET, "dpo": BUDGET, "sft-0.25x": BUDGET / 4, "dpo-0.25x": BUDGET / 4,
    }  # fmt: skip
    for row in ("sft", "dpo"):
        assert rows[f"{row}-0.25x"]["flops_per_update"] == rows[row]["flops_per_update"], "measured once"
        assert rows[f"{row}-0.25x"]["seconds"] < rows[row]["seconds"]
    assert rows["dpo-0.25x"]["stage_share"] == pytest.approx(4 * rows["dpo"]["stage_share"])
    done = zoo("plan", folder.parent / "spec.yaml", *words, cwd=folder.parent)
    assert "5e+08" in done.stdout


def test_a_reference_row_is_left_out_where_no_update_of_it_fits_unless_it_was_asked_for(
    world: Path, zoo: Callable[..., Any], tmp_path: Path
) -> None:
    words = ("plan", world / "spec.yaml", "--budget", "5e7", "--algorithms")
    done = zoo(*words, "sft", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "sft-chosen is left out: the budget of 5e+07 FLOPs is too small" in " ".join(done.stderr.split())
    done = zoo(*words, "sft,sft-chosen", cwd=tmp_path)
    assert done.returncode == 2
    assert "too small for one update of sft-chosen" in " ".join(done.stderr.split())
