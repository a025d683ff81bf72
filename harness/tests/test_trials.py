"""Tuned rows: their trials are charged, the best by dev gold is chosen, and ordinary rows stay as they are."""

import json
import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from zoo_harness.job import Job
from zoo_harness.jobs.choice import best_of, choice_of, tried_of
from zoo_harness.payloads import Candidate, ToScore, Training
from zoo_harness.planning.pipeline import Pipeline
from zoo_harness.planning.plan import Plan
from zoo_harness.planning.trial_jobs import points
from zoo_harness.spec.read import read
from zoo_harness.spec.schema import Entry

from zoo_core.errors import PluginError, SpecError, ZooError

ANYTHING = {"sha256": ["x", "y"]}
PROBED: Any = {
    "base": {"files": "x"},
    "base_path": "base",
    "costs": defaultdict(lambda: {"processes": 1}),
    "hashes": {},
    "environment": {},
    "data": dict.fromkeys(["demonstrations", "preferences", "prompts", "dev_prompts", "test_prompts"], ANYTHING),
}
BUDGET = 4e9
TRIALS = 3


def pipeline(world: Path, **changes: Any) -> Pipeline:
    return Pipeline.of(read(world / "spec.yaml", None, {"algorithms": ["sft", "dpo"], **changes}))


def jobs(world: Path, **changes: Any) -> dict[str, Job]:
    plan = Plan(pipeline(world, seeds=1, **changes), PROBED, 1e9, Path("out"), Path("cache"))
    return {job.title: job for job in plan.jobs()}


def test_every_ranked_row_that_can_be_searched_has_a_tuned_row_beside_it(world: Path) -> None:
    found = {row.name: row.entry.trials for row in pipeline(world, trials=4, controls=True, budgets=[0.25]).rows}
    assert {name: count for name, count in found.items() if count} == {"sft-tuned": 4, "dpo-tuned": 4}
    assert {"dpo-shuffled", "sft-chosen", "dpo-0.25x"} <= set(found), "and these have none"
    assert not any("tuned" in row.name for row in pipeline(world).rows)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": 1}, "trials: 1 trials cannot be; write 0 for none, or 2 and more"),
        ({"trials": -2}, "trials: -2 trials cannot be"),
        ({"trials": 10**9}, "up to 1000"),
        ({"trials": True}, "trials: .*is no number"),
        ({"trials": "many"}, "trials: .*valid integer"),
        ({"algorithms": [{"name": "dpo", "trials": 1}]}, "algorithms.0.trials: 1 trials cannot be"),
        (
            {"algorithms": ["dpo", {"name": "sft", "row": "dpo-tuned"}], "trials": 2},
            "trials: 'dpo' tuned is called 'dpo-tuned', and another row .* `row: another-name`",
        ),
        ({"algorithms": [{"name": "dpo", "row": "d" * 60}], "trials": 2}, "trials: the row name .* is too long"),
        ({"algorithms": [{"name": "dpo", "control": "shuffled", "trials": 2}]}, "is a control, which nothing tunes"),
        ({"gold": None, "reward": None, "trials": 2}, "trials: there is neither gold nor reward"),
    ],
)
def test_trials_that_cannot_be_are_refused_with_the_remedy(world: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        pipeline(world, **changes)


def test_different_seeds_try_different_points_and_the_same_seed_the_same(world: Path) -> None:
    entry = Entry.model_validate({"name": "dpo", "row": "x", "trials": 8, "beta": 0.3})
    mine, again, other = points(entry, 5), points(entry, 5), points(entry, 6)
    assert mine == again
    assert len(mine) == 8
    assert mine[0] == other[0] == {"beta": 0.3}, "the first has the settings of the row itself"
    assert not [one for one in mine[1:] if one in other[1:]]
    assert all("learning_rate" in one for one in mine[1:])


def test_ordinary_rows_keep_their_identities_and_are_told_nothing_of_trials(world: Path) -> None:
    before, after = jobs(world), jobs(world, trials=3)
    assert {title: after[title].identity for title in before} == {title: one.identity for title, one in before.items()}
    assert {title: after[title].payload for title in before if not title.startswith("score")} == {
        title: one.payload for title, one in before.items() if not title.startswith("score")
    }
    assert len({job.identity for job in after.values()}) == len(after)


def test_a_run_waits_for_its_trials_and_has_half_of_what_they_and_it_share(world: Path) -> None:
    found = jobs(world, trials=3)
    run = found["dpo-tuned"]
    trainings = [found[f"dpo-tuned trial {number} of 3"] for number in (1, 2, 3)]
    scores = [found[f"score dpo-tuned trial {number} of 3"] for number in (1, 2, 3)]
    assert run.after == tuple(score.identity for score in scores)
    assert set(run.needs) == set(found["dpo"].needs)
    assert not run.trial
    assert all(training.identity in score.needs for training, score in zip(trainings, scores, strict=True))
    given, parts = Training.of(run.payload), [Training.of(one.payload).part for one in trainings]
    assert (given.part, parts) == (0.5, [pytest.approx(1 / 6)] * 3)
    assert [Training.of(one.payload).stages for one in trainings] == [given.stages] * 3
    assert [Training.of(one.payload).settings for one in trainings] == [one.settings for one in given.candidates]
    for score in scores:
        payload = ToScore.of(score.payload)
        assert payload.dev_only
        assert not payload.spec.tasks
    assert jobs(world, trials=4)["dpo-tuned"].identity != run.identity


def candidate(folder: Path, number: int, gold: float | None, proxy: float | None, **files: Any) -> Candidate:
    """A trial as its jobs leave it: with two temperatures, of which the second is the better."""
    training, score = folder / f"{number}", folder / f"{number}-score"
    ledger = {"flops": 10 * number, "flags": []}
    values = {"gold": gold, "proxy": proxy}
    left = {"training": {"identity": "t", "ledger": ledger}, "score": {"identity": "s"}} | files
    for where, found in ((training, left.get("training")), (score, left.get("score"))):
        where.mkdir(parents=True)
        if found is not None:
            lower = {name: None if one is None else one - 1 for name, one in values.items()}
            (where / "result.json").write_text(json.dumps({**found, "by_temperature": {"0": lower, "1": values}}))
    for name in ("failure", "begun", "spent"):
        if name in files:
            (training / f"{name}.json").write_text(json.dumps({"identity": "t", **files[name]}))
    return Candidate(
        settings={"number": number}, training=training, training_identity="t", score=score, score_identity="s"
    )


FAILED = {"training": None, "score": None}


def training(world: Path, candidates: list[Candidate], by: str = "gold") -> Training:
    spec = read(world / "spec.yaml", None, {})
    return Training.model_validate(
        {"spec": spec, "algorithm": "dpo", "settings": {}, "candidates": candidates, "chosen_by": by}
    )


def test_the_best_by_dev_gold_is_chosen_at_its_best_temperature_and_the_first_of_equals(
    world: Path, tmp_path: Path
) -> None:
    every = [(0.2, 9.0), (0.7, 1.0), (0.7, 2.0)]
    tried = [candidate(tmp_path, number, *values) for number, values in enumerate(every)]
    found = choice_of(training(world, tried))
    assert [(one["gold"], one["proxy"]) for one in found["tried"]] == every
    assert (found["chosen"], found["by_proxy"]) == (1, 0)
    assert choice_of(training(world, tried, "proxy"))["chosen"] == 0
    assert best_of([], "gold") is None


def test_a_trial_that_fails_is_behind_all_others_and_what_it_spent_is_charged(world: Path, tmp_path: Path) -> None:
    failure = {"failure": {"user": True, "error": "too small"}, "spent": {"ledger": {"flops": 7}}}
    tried = [
        candidate(tmp_path, 0, 1.0, 1.0, **FAILED, **failure),
        candidate(tmp_path, 1, -5.0, -5.0),
        candidate(tmp_path, 2, 1.0, 1.0, **FAILED, begun={"attempts": 2}),
    ]
    found = choice_of(training(world, tried))
    assert found["chosen"] == 1
    assert [one["error"] for one in found["tried"]] == ["too small", None, "its process was killed from outside"]
    assert [one["ledger"] and one["ledger"]["flops"] for one in found["tried"]] == [7, 10, None]


def test_what_another_job_left_in_the_folder_of_a_trial_is_not_its_own(tmp_path: Path) -> None:
    one = candidate(tmp_path, 1, 1.0, 1.0).model_copy(update={"training_identity": "another"})
    assert tried_of(one)["gold"] is None


@pytest.mark.parametrize("user", [True, False])
def test_a_row_whose_trials_all_fail_fails_with_the_reason_of_the_first(
    world: Path, tmp_path: Path, *, user: bool
) -> None:
    reasons = [{"failure": {"user": user, "error": f"reason {number}"}} for number in range(2)]
    tried = [candidate(tmp_path, number, None, None, **FAILED, **one) for number, one in enumerate(reasons)]
    with pytest.raises(ZooError, match="all 2 trials failed; the first: reason 0") as raised:
        choice_of(training(world, tried))
    assert isinstance(raised.value, PluginError) != user


def test_a_run_does_not_choose_before_its_trials_began(world: Path, tmp_path: Path) -> None:
    tried = [candidate(tmp_path, 0, 0.1, 0.1), candidate(tmp_path, 1, None, None, **FAILED)]
    with pytest.raises(ZooError, match="trial 2 of 2 has not begun"):
        choice_of(training(world, tried))


@pytest.fixture(scope="module")
def bench(
    world: Path, written: dict[str, Any], zoo: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Any]:
    """Run a bench of dpo with two seeds in a folder; all calls share folder and cache."""
    folder = tmp_path_factory.mktemp("trials")
    values = {**written, "algorithms": ["dpo"], "references": False, "tasks": []}
    for key in ("base", "demonstrations", "preferences", "prompts"):
        values[key] = str(world / values[key])
    values |= {"seeds": 2, "budget": BUDGET, "evaluation": {**values["evaluation"], "best_of": []}}
    (folder / "judge.py").write_text((world / "judge.py").read_text())
    (folder / "spec.yaml").write_text(yaml.safe_dump(values))

    def run(command: str, *words: str, output: str = "run") -> Any:
        done = zoo(command, "spec.yaml", "--output", output, *words, cwd=folder)
        done.output = folder / output
        return done

    return run


def record(folder: Path, row: str, seed: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "records" / f"{row}-seed{seed}.json").read_text())
    return found


def begun(folder: Path) -> dict[str, str]:
    return {f"{path.parent.parent.name}/{path.parent.name}": path.read_text() for path in folder.glob("*/*/begun.json")}


@pytest.fixture(scope="module")
def grown(bench: Callable[..., Any]) -> tuple[Any, Any, dict[str, str]]:
    """A bench, the same grown by tuned rows, and what had begun before it grew."""
    first = bench("bench")
    assert first.returncode == 0, first.stderr
    before = begun(first.output)
    return first, bench("bench", "--trials", str(TRIALS)), before


@pytest.mark.slow
def test_a_tuned_row_never_spends_more_than_its_budget_and_its_ledger_is_stages_trials_and_run(grown: Any) -> None:
    _, done, _ = grown
    assert done.returncode == 0, done.stderr
    for seed in range(2):
        mine, plain = record(done.output, "dpo-tuned", seed), record(done.output, "dpo", seed)
        run = json.loads((done.output / "cells" / f"dpo-tuned-seed{seed}" / "result.json").read_text())["ledger"]
        trials = [
            json.loads((done.output / "trials" / f"dpo-tuned-seed{seed}-{number:02d}" / "result.json").read_text())
            for number in range(1, TRIALS + 1)
        ]
        ledgers = [one["ledger"] for one in trials]
        stages = sum(stage["flops"] for stage in mine["stages"])
        left = BUDGET - stages
        assert mine["stages"] == plain["stages"], "once, in full"
        assert mine["flops_budget"] == BUDGET
        assert all(one["flops"] <= left / (2 * TRIALS) for one in ledgers)
        assert run["flops"] <= left / 2
        assert mine["flops_used"] == stages + run["flops"] + sum(one["flops"] for one in ledgers) <= BUDGET
        assert mine["flops_used"] == sum(mine["flops_by_role_phase"].values())
        assert mine["updates"] == run["updates"] + sum(one["updates"] for one in ledgers)
        assert mine["peak_memory_bytes"] == max(one["peak_memory_bytes"] for one in [run, *ledgers])
        assert mine["audit_ratio"] == pytest.approx(1.0, abs=0.02)
        assert [one["flops"] for one in mine["trials"]["tried"]] == [one["flops"] for one in ledgers]


@pytest.mark.slow
def test_the_run_has_the_settings_of_the_trial_with_the_best_gold(grown: Any) -> None:
    _, done, _ = grown
    found = [record(done.output, "dpo-tuned", seed) for seed in range(2)]
    for one in found:
        golds = [trial["gold"] for trial in one["trials"]["tried"]]
        assert one["trials"]["chosen"] == golds.index(max(golds))
        assert one["settings"] == one["trials"]["tried"][one["trials"]["chosen"]]["settings"]
        assert (one["tuning"], one["status"], one["kind"]) == ("tuned here", "ok", "algorithm")
    assert found[0]["trials"]["tried"][0]["settings"] == found[1]["trials"]["tried"][0]["settings"] == {}
    assert found[0]["trials"]["tried"][1]["settings"] != found[1]["trials"]["tried"][1]["settings"]


@pytest.mark.slow
def test_a_bench_that_grows_by_tuned_rows_trains_no_ordinary_row_again(grown: Any, bench: Any, zoo: Any) -> None:
    _, done, before = grown
    after = begun(done.output)
    assert {name: after[name] for name in before} == before
    board = json.loads((done.output / "leaderboard.json").read_text())
    rows = {row["row"]: row for row in board["rows"]}
    assert rows["dpo-tuned"]["status"] == rows["dpo"]["status"]
    assert (rows["dpo-tuned"]["tuning"], rows["dpo-tuned"]["trials"]) == ("tuned here", TRIALS)
    assert "trials" not in rows["dpo"]
    again = bench("bench", "--trials", str(TRIALS))
    assert again.returncode == 0, again.stderr
    assert begun(done.output) == after, "nothing is done twice"
    packed = zoo("leaderboard", "publish", done.output, done.output.parent / "bundle", cwd=done.output.parent)
    assert packed.returncode == 0, packed.stderr
    assert zoo("leaderboard", "verify", done.output.parent / "bundle", cwd=done.output.parent).returncode == 0


@pytest.mark.slow
def test_a_run_that_is_lost_is_made_again_from_the_trials_that_are_there(grown: Any, bench: Any) -> None:
    _, done, _ = grown
    before, trials = record(done.output, "dpo-tuned"), begun(done.output)
    shutil.rmtree(done.output / "cells" / "dpo-tuned-seed0")
    again = bench("bench", "--trials", str(TRIALS))
    assert again.returncode == 0, again.stderr
    after = record(done.output, "dpo-tuned")
    times = ("wall_seconds", "peak_memory_bytes", "attempt", "items")
    assert {k: v for k, v in after.items() if k not in times} == {k: v for k, v in before.items() if k not in times}
    assert {k: v for k, v in begun(done.output).items() if k.startswith("trials")} == {
        k: v for k, v in trials.items() if k.startswith("trials")
    }


@pytest.mark.slow
def test_a_plan_counts_the_trials_and_refuses_those_that_are_too_small_for_all_rows(bench: Any, grown: Any) -> None:
    done = bench("plan", "--trials", "3", "--json", output="plan")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    rows = {row["row"]: row for row in found["rows"]}
    assert rows["dpo-tuned"]["flops"] == rows["dpo"]["flops"]
    assert rows["dpo-tuned"]["flops_per_update"] == rows["dpo"]["flops_per_update"], "measured once"
    assert rows["dpo"]["updates"] - 4 <= rows["dpo-tuned"]["updates"] <= rows["dpo"]["updates"]
    assert rows["dpo-tuned"]["seconds"] > rows["dpo"]["seconds"], "each run opens everything anew"
    assert any(note.startswith("dpo-tuned: each of its 3 trials makes about") for note in found["warnings"])
    done = bench("bench", "--trials", "900", output="plan")
    assert done.returncode == 2
    assert "dpo-tuned: 900 trials are too many for this budget" in " ".join(done.stderr.split())
    assert not (done.output / "cells").exists()
    assert bench("bench", "--trials", "1", output="plan").returncode == 2


@pytest.mark.slow
def test_a_trial_too_small_for_one_update_loses_and_fails_no_bench(bench: Any, grown: Any) -> None:
    plain = record(grown[1].output, "dpo")
    before = sum(stage["flops"] for stage in plain["stages"])
    each = (plain["flops_used"] - before) / plain["updates"]
    entry = Entry(name="dpo", row="dpo-tuned", trials=6)
    sizes = [one.get("batch_size", 32) for one in points(entry, 0)]
    assert 64 in sizes, "twice the default, which is 32"
    budget = before + 2 * len(sizes) * 1.6 * each
    done = bench("bench", "--trials", "6", "--seeds", "1", "--budget", str(budget), output="small")
    assert done.returncode == 0, done.stderr
    mine = record(done.output, "dpo-tuned")
    errors = [one["error"] for one in mine["trials"]["tried"]]
    assert [bool(error) for error in errors] == [size == 64 for size in sizes]
    assert all("too small for one update" in error for error in errors if error)
    assert sizes[mine["trials"]["chosen"]] != 64
    assert f"{sizes.count(64)} of 6 trials failed" in mine["flags"]
    assert mine["flops_used"] <= mine["flops_budget"]
    assert mine["flops_used"] == sum(mine["flops_by_role_phase"].values())
