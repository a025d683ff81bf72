"""What is logged where, read back by TensorBoard; what W&B and Trackio are asked for; a tracker that fails."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate.tracking import GeneralTracker
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from zoo_trackers import logs, plugin

from zoo_core.records import Finished, Progress, Training


@pytest.fixture(autouse=True)
def new_process(monkeypatch):
    """Each test begins as a process of a job does; calling it begins another."""

    def begin():
        monkeypatch.setattr(logs, "_open", {})

    begin()
    return begin


def training_in(output: Path, name: str = "dpo-seed0", tracker: str | None = "tensorboard", **changes: Any) -> Training:
    row, _, seed = name.rpartition("-seed")
    known = {
        "name": name,
        "row": row,
        "stage": "",
        "seed": int(seed),
        "algorithm": "dpo",
        "settings": {"beta": 0.1, "constitution": None, "layers": [1, 2], "packed": True},
        "budget": 1e9,
        "identity": "abc",
        "directory": output / "cells" / name,
        "bench": "mine",
        "output": output,
        "tracker": tracker,
    }
    return Training(**{**known, **changes})


def train(training: Training, updates: range, finished: bool = True, stage: str = "") -> None:
    """Do what the harness tells observers during a training."""
    for update in updates:
        progress = Progress(
            update=update, stage=stage, flops=100 * (update + 1), share=0.1 * update, metrics={"loss": 1 / (1 + update)}
        )
        plugin.zoo_run_updated(training, progress)
    if finished:
        ledger = {"wall_seconds": 2.5, "updates": updates.stop, "flops": 300, "flags": [], "audit_ratio": None}
        plugin.zoo_run_finished(
            training,
            Finished(weights=Path(), weights_sha256="f00", updates=updates.stop, flops=350, ledger=ledger),
        )


def run_in(output: Path, name: str = "dpo-seed0") -> EventAccumulator:
    return EventAccumulator(str(output / "trackers" / "tensorboard" / name)).Reload()


def steps_of(run: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(one.step, pytest.approx(one.value)) for one in run.Scalars(tag)]


def test_rows_and_seeds_are_runs_of_their_own(tmp_path):
    for name in ("dpo-seed0", "dpo-seed1", "ppo-seed0", "stages/sft-seed0"):
        train(training_in(tmp_path, name), range(2))
    for name in ("dpo-seed0", "dpo-seed1", "ppo-seed0", "stages/sft-seed0"):
        assert len(run_in(tmp_path, name).Scalars("loss")) == 2


def test_every_update_has_its_metrics_its_flops_and_its_share_of_the_budget(tmp_path):
    train(training_in(tmp_path), range(3))
    run = run_in(tmp_path)
    assert steps_of(run, "loss") == [(0, 1), (1, 1 / 2), (2, 1 / 3)]
    assert steps_of(run, "zoo/flops") == [(0, 100), (1, 200), (2, 300)]
    assert steps_of(run, "zoo/budget_share") == [(0, 0), (1, 0.1), (2, 0.2)]


def test_metrics_of_a_stage_of_the_algorithm_bear_its_name(tmp_path):
    train(training_in(tmp_path), range(1), stage="fit")
    assert steps_of(run_in(tmp_path), "fit/loss") == [(0, 1)]


def test_the_totals_are_the_numbers_of_the_ledger_with_the_flops_of_stages(tmp_path):
    train(training_in(tmp_path), range(3))
    run = run_in(tmp_path)
    totals = {tag: steps_of(run, tag) for tag in run.Tags()["scalars"] if tag.startswith("total/")}
    assert totals == {"total/wall_seconds": [(3, 2.5)], "total/updates": [(3, 3)], "total/flops": [(3, 350)]}
    (told,) = run.Tensors("weights_sha256/text_summary")
    assert told.tensor_proto.string_val == [b"f00"]


def test_hyperparameters_say_which_training_it_is_and_all_its_settings(tmp_path):
    train(training_in(tmp_path), range(1))
    (file,) = tmp_path.rglob("hparams.yml")
    assert yaml.safe_load(file.read_text()) == {
        "algorithm": "dpo",
        "bench": "mine",
        "budget": 1e9,
        "identity": "abc",
        "row": "dpo",
        "seed": 0,
        "settings/beta": 0.1,
        "settings/layers": "(1, 2)",
        "settings/packed": True,
        "stage": "",
    }


def test_a_resumed_training_goes_on_in_the_same_run_and_no_step_is_there_twice(tmp_path, new_process):
    train(training_in(tmp_path), range(4), finished=False)
    new_process()
    train(training_in(tmp_path), range(2, 6))
    run = run_in(tmp_path)
    assert steps_of(run, "loss") == [(step, 1 / (1 + step)) for step in range(6)]
    assert len(list(tmp_path.rglob("hparams.yml"))) == 1


def test_a_row_that_changed_takes_the_place_of_the_one_before_with_its_own_hyperparameters(tmp_path, new_process):
    train(training_in(tmp_path), range(4))
    new_process()
    train(training_in(tmp_path, identity="def"), range(2))
    assert [step for step, _ in steps_of(run_in(tmp_path), "loss")] == [0, 1]
    assert len(list(tmp_path.rglob("hparams.yml"))) == 2


def test_a_training_that_asks_for_no_tracker_of_ours_leaves_nothing(tmp_path):
    for tracker in (None, "mine"):
        train(training_in(tmp_path, tracker=tracker), range(2))
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_cannot_be_opened_is_not_tried_again(tmp_path):
    """Else a server that does not answer would be waited for in every update."""
    (tmp_path / "trackers").write_text("a file where the folder should be")
    training = training_in(tmp_path)
    with pytest.raises(NotADirectoryError):
        train(training, range(1), finished=False)
    train(training, range(1, 3))


class Remembered(GeneralTracker):
    """Stands in for accelerate's trackers of W&B and Trackio."""

    def __init__(self, project: str, **asked: Any) -> None:
        super().__init__(_blank=True)
        self.project, self.asked, self.said = project, asked, []

    def start(self) -> None:
        self.said.append("start")

    def log(self, values: dict[str, Any], step: int) -> None:
        self.said.append((step, sorted(values)[0]))

    def finish(self) -> None:
        self.said.append("finish")


@pytest.fixture
def asked(monkeypatch):
    """The stand-ins that were made."""
    made = []

    def make(*given, **named):
        made.append(Remembered(*given, **named))
        return made[-1]

    for name in ("WandBTracker", "TrackioTracker"):
        monkeypatch.setattr(logs, name, make)
    for name in ("WANDB_MODE", "WANDB_PROJECT", "TRACKIO_DIR", "TRACKIO_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    return made


@pytest.mark.parametrize("tracker", ["wandb", "trackio"])
def test_other_trackers_are_told_the_run_the_bench_and_the_hyperparameters(tmp_path, asked, tracker):
    train(training_in(tmp_path, "dpo-seed1", tracker), range(2))
    (run,) = asked
    assert run.project == "rlhf-zoo"
    assert (run.asked["name"], run.asked["group"], run.asked["resume"]) == ("dpo-seed1", "mine", "allow")
    assert run.asked["config"]["seed"] == 1
    assert run.said == ["start", (0, "loss"), (1, "loss"), (2, "total/flops"), "finish"]


def test_wandb_is_offline_unless_the_environment_says_otherwise(tmp_path, asked, monkeypatch, new_process):
    train(training_in(tmp_path, tracker="wandb"), range(1))
    new_process()
    monkeypatch.setenv("WANDB_MODE", "online")
    train(training_in(tmp_path, tracker="wandb"), range(1))
    assert [run.asked["mode"] for run in asked] == ["offline", "online"]
    assert asked[0].asked["dir"] == str(tmp_path / "trackers" / "wandb")


def test_a_run_of_wandb_is_known_again_by_training_and_folder(tmp_path, asked, new_process):
    for output, changes in (
        (tmp_path / "a", {}),
        (tmp_path / "a", {}),
        (tmp_path / "b", {}),
        (tmp_path / "a", {"identity": "x"}),
    ):
        train(training_in(output, tracker="wandb", **changes), range(1))
        new_process()
    first, again, elsewhere, changed = (run.asked["id"] for run in asked)
    assert first == again
    assert len({first, elsewhere, changed}) == 3


def test_trackio_keeps_its_database_with_the_bench(tmp_path, asked, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", "")  # so that it is taken away again
    monkeypatch.delenv("TRACKIO_DIR")
    train(training_in(tmp_path, tracker="trackio"), range(1))
    assert logs.os.environ["TRACKIO_DIR"] == str(tmp_path / "trackers" / "trackio")
