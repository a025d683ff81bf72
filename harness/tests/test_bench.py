"""The whole command, on files a user would write: budgets, ledgers, repetition, kills, broken plugins."""

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from zoo_core.registry.plugins import plugins

ROWS = ("sft", "dpo", "ppo")
REFERENCES = ("base", "start", "best-of-4", "sft-chosen")
TRAINED = (*ROWS, "sft-chosen")
NOT_REPEATED = ("wall_seconds", "peak_memory_bytes", "stages", "attempt")


def records_of(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in sorted((folder / "records").glob("*.json"))]
    return {(record["row"], record["seed"]): record for record in found}


@pytest.fixture(scope="module")
def finished(world, broken_plugins, zoo, tmp_path_factory) -> tuple[Any, Path]:
    """One bench of three algorithms and two seeds, beside five broken plugins."""
    folder = tmp_path_factory.mktemp("run")
    done = zoo("bench", world / "spec.yaml", cwd=folder, PYTHONPATH=str(broken_plugins))
    return done, folder / "zoo-runs" / "spec"


def test_it_ends_well_with_a_board_in_every_format(finished):
    done, folder = finished
    assert done.returncode == 0, done.stdout + done.stderr
    for name in (*ROWS, *REFERENCES):
        assert name in done.stdout
    board = json.loads((folder / "leaderboard.json").read_text())
    assert {row["row"] for row in board["rows"]} == {*ROWS, *REFERENCES}
    assert {row["row"] for row in board["rows"] if row["status"] == "reference"} == set(REFERENCES)
    assert all(row["rank_low"] is None for row in board["rows"])  # two seeds rank nothing
    assert "ppo" in (folder / "leaderboard.md").read_text()
    assert "ppo" in (folder / "leaderboard.html").read_text()
    assert len(list(csv.reader((folder / "leaderboard.csv").read_text().splitlines()))) == 8


def test_every_row_uses_the_same_budget_up_to_its_last_update_or_a_twentieth(finished, written):
    for (row, _), record in records_of(finished[1]).items():
        if row in TRAINED:
            assert record["flops_budget"] == written["budget"]
            update = record["flops_by_role_phase"]["policy/train"] / record["updates"]
            least = min(0.95 * written["budget"], written["budget"] - 1.2 * update)
            assert least <= record["flops_used"] <= written["budget"], (row, record["flags"])


def test_the_ledger_adds_up_and_the_audit_agrees(finished):
    for (row, _), record in records_of(finished[1]).items():
        assert record["flops_used"] == sum(record["flops_by_role_phase"].values())
        if row in ROWS:
            assert record["audit_ratio"] == pytest.approx(1.0, abs=0.02)
            assert not record["flags"]


def test_rows_pay_for_the_stages_they_stand_on_and_for_no_others(finished):
    records = records_of(finished[1])
    names = {row: [stage["name"] for stage in records[row, 0]["stages"]] for row in ROWS}
    assert names == {"sft": [], "dpo": ["sft"], "ppo": ["sft", "reward-model", "calibration"]}
    assert records["dpo", 0]["stages"][0]["flops"] == records["start", 0]["flops_used"]
    assert records["sft", 0]["labels"] == {"demonstrations": 64, "preferences": 0}
    assert records["dpo", 0]["labels"] == records["ppo", 0]["labels"] == {"demonstrations": 64, "preferences": 32}
    assert records["ppo", 0]["generated_tokens"] > 0 == records["dpo", 0]["generated_tokens"]
    assert records["sft-chosen", 0]["labels"] == {"demonstrations": 64, "preferences": 32}


def test_a_record_has_all_settings_that_were_trained_with_defaults_too(finished):
    for (row, _), record in records_of(finished[1]).items():
        if row in TRAINED:
            fields = dataclasses.fields(plugins().algorithm(record["algorithm"]).load_config())
            assert record["all_settings"].keys() == {field.name for field in fields}, row
            assert record["settings"].items() <= record["all_settings"].items()
        else:
            assert record["all_settings"] == {}


def test_the_best_of_n_pays_for_n_samples_and_their_scores_and_for_the_reward_model(finished):
    records = records_of(finished[1])
    best, start = records["best-of-4", 0], records["start", 0]
    assert best["scores"]["flops_per_query"] > 4 * start["scores"]["flops_per_query"] > 0
    at_one = [one["scores"]["by_temperature"]["1"]["proxy"] for one in (start, best)]
    assert at_one[1] > at_one[0]
    assert best["scores"]["kl_start"] is None
    curve = best["scores"]["best_of_curve"]
    assert [point["n"] for point in curve] == [1, 2, 4]
    assert curve[0]["proxy"] < curve[1]["proxy"] < curve[2]["proxy"]
    assert [stage["name"] for stage in best["stages"]] == ["reward-model"]
    assert best["weights_sha256"] == start["weights_sha256"]


def test_rewards_are_measured_on_pairs_that_no_algorithm_saw(finished):
    accuracies = records_of(finished[1])["start", 0]["scores"]["pair_accuracy"]
    # The chosen answers of this world are all a, so the judge that counts a is always right.
    assert accuracies["gold"]["accuracy"] == 1.0
    assert set(accuracies) == {"gold", "proxy"}
    assert accuracies["proxy"]["pairs"] > 0


def test_scores_are_of_the_best_temperature_and_divergence_starts_at_zero(finished):
    records = records_of(finished[1])
    for record in records.values():
        scores = record["scores"]
        best = max(scores["by_temperature"].values(), key=lambda one: one["gold"])
        assert scores["by_temperature"][f"{scores['temperature']:g}"]["gold"] == best["gold"]
        assert len(record["items"]) == 16
        assert 1.0 in [float(t) for t in scores["by_temperature"]]
        assert scores["gold"] == pytest.approx(sum(item["gold"] for item in record["items"]) / 16)
        assert scores["tasks"]["spell"]["n"] == 8
    assert records["start", 0]["scores"]["kl_start"] == pytest.approx(0.0, abs=1e-6)
    assert records["ppo", 0]["scores"]["kl_start"] > 1e-4
    assert records["ppo", 0]["scores"]["win_start"] is not None


def test_the_scorer_loads_no_algorithm_and_a_training_process_knows_no_gold(finished):
    jobs = [json.loads(path.read_text()) for path in finished[1].glob("*/*/job.json")]
    trained = [job for job in jobs if job["kind"] == "train"]
    assert len(trained) == 2 * len(TRAINED)
    assert not any("judge:share_of_a" in json.dumps(job) for job in trained)
    scored = next(job for job in jobs if job["kind"] == "score")
    code = (
        "import sys, json; from zoo_harness.job import Job; from zoo_harness.jobs.worker import _prepare;"
        "import zoo_harness.jobs.score;"
        f"_prepare(Job(**json.loads({json.dumps(json.dumps(scored))})));"
        "algorithms = {'zoo_ppo', 'zoo_dpo', 'zoo_sft', 'zoo_reward_model'};"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in algorithms))"
    )
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "[]"


def test_broken_plugins_are_named_with_their_reason(finished, broken_plugins, zoo, tmp_path):
    listed = zoo("plugins", "list", "--json", cwd=tmp_path, PYTHONPATH=str(broken_plugins))
    found = {plugin["name"]: plugin for plugin in json.loads(listed.stdout)}
    names = [path.stem.removeprefix("broken_") for path in broken_plugins.glob("*.py")]
    assert len(names) == 5
    for name in names:
        assert found[name]["status"] in ("broken", "conflict"), found[name]
        assert found[name]["reason"]
    assert found["ppo"]["status"] == "ok"
    assert "nothing_of_that_name" in found["cannot_import"]["reason"]


def test_the_same_command_again_computes_nothing(finished, world, broken_plugins, zoo):
    _, folder = finished
    stamps = {path: path.stat().st_mtime_ns for path in folder.glob("*/*/result.json")}
    again = zoo("bench", world / "spec.yaml", cwd=folder.parent.parent, PYTHONPATH=str(broken_plugins))
    assert again.returncode == 0, again.stderr
    assert stamps == {path: path.stat().st_mtime_ns for path in folder.glob("*/*/result.json")}


def test_a_killed_bench_goes_on_to_the_same_weights_ledger_and_board(finished, world, environment, tmp_path):
    """Own stages too: with an empty cache everything is computed again. A cell of every algorithm is killed once, the
    first together with the bench, the others under a bench that lives on."""
    own = {**environment, "ZOO_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "zoo_harness.start", "bench", str(world / "spec.yaml"), "--workers", "1"]
    command += ["--set", "checkpoint_seconds=0", "--seeds", "1", "--output", str(tmp_path / "out")]
    cells, killed = tmp_path / "out" / "cells", set[str]()
    for with_bench in (True, False):
        bench = subprocess.Popen(command, cwd=tmp_path, env=own, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        kill_cells(cells, killed, bench, with_bench)
        assert bench.wait(timeout=250) == (-signal.SIGKILL if with_bench else 0)
    assert killed == {f"{row}-seed0" for row in TRAINED}
    for name in killed:
        assert json.loads((cells / name / "begun.json").read_text())["attempts"] == 2, name
    undisturbed, resumed = records_of(finished[1]), records_of(tmp_path / "out")
    assert resumed.keys() == {cell for cell in undisturbed if cell[1] == 0}
    for cell, record in resumed.items():
        own_keys = (*NOT_REPEATED, "bench_id")  # this bench has one seed, the other two
        mine = {key: value for key, value in undisturbed[cell].items() if key not in own_keys}
        other = {key: value for key, value in record.items() if key not in own_keys}
        assert mine == other, cell


def kill_cells(cells: Path, killed: set[str], bench: subprocess.Popen[bytes], with_bench: bool) -> None:
    """Kill each cell that was not killed yet, once it has a checkpoint and no result; the bench at once with it."""
    while bench.poll() is None:
        for folder in cells.glob("*-seed0"):
            if (
                folder.name not in killed
                and (folder / "now.safetensors").exists()
                and not (folder / "result.json").exists()
            ):
                killed.add(folder.name)
                if with_bench:
                    os.kill(bench.pid, signal.SIGKILL)
                for child in processes_in(folder):
                    os.kill(child, signal.SIGKILL)
                if with_bench:
                    return
        time.sleep(0.002)


def processes_in(folder: Path) -> list[int]:
    """Process ids that write the log of a cell."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "fd" / "1") == str(folder / "log.txt"):
                found.append(int(process.name))
        except OSError:
            continue  # ended, or not ours
    return found


def test_a_users_mistake_ends_with_2_and_no_traceback(world, zoo, tmp_path):
    done = zoo("bench", world / "spec.yaml", "--algorithms", "sft", "--prompts", "absent.jsonl", cwd=tmp_path)
    assert done.returncode == 2
    assert "absent.jsonl: there is no such file" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert not (tmp_path / "zoo-runs" / "spec").exists()


def without(heavy: set[str], words: list[str], folder: Path) -> None:
    """Run a command, and fail if its process has imported one of these; its jobs, which import all, have their own."""
    script = folder / "command.py"
    script.write_text(
        "import sys\n"
        "if __name__ == '__main__':\n"
        f"    sys.argv = {['zoo', *words]!r}\n"
        "    from zoo_harness.cli import main\n"
        "    try: main()\n"
        "    except SystemExit as end: assert not end.code, end\n"
        f"    assert not {heavy!r} & set(sys.modules), 'heavy'\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr


def test_listing_imports_no_torch(tmp_path):
    without({"torch", "transformers", "numpy", "jaxtyping"}, ["plugins", "list", "--json"], tmp_path)


def test_planning_a_bench_imports_no_torch_which_takes_seconds(world, tmp_path):
    without({"torch", "transformers"}, ["plan", str(world / "spec.yaml"), "--algorithms", "sft"], tmp_path)
