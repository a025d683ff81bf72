"""The laws of a search for settings: its points, its two rounds, its log, and what it writes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import yaml
from zoo_harness.planning.identity import commit_of
from zoo_harness.spec.read import read
from zoo_harness.tuning import command
from zoo_harness.tuning.log import Search, is_at_edge
from zoo_harness.tuning.points import Point, Study
from zoo_harness.tuning.rounds import in_world, world_of
from zoo_harness.tuning.worth import Tried, as_good_as, best_first, defaults_first, missing_their_objective, worth
from zoo_harness.tuning.write import with_defaults

from zoo_core.errors import PluginError, SpecError, StorageError
from zoo_core.records import LEARNING_RATES, Choice, Defaults, Range, Space
from zoo_core.registry.plugins import plugins
from zoo_core.registry.spaces import space_of

SPACE: Space = {"learning_rate": LEARNING_RATES, "batch_size": Choice((8, 16)), "rows": Range(3, 9, whole=True)}
PRESENT = {"learning_rate": 1e-4, "batch_size": 8, "rows": 5}
SHORT = ("--points", "3", "--finalists", "1", "--seeds", "1")
FAST = {"budget": 2e9, "tasks": [], "algorithms": ["sft", {"name": "dpo", "beta": 0.3}]}


def tried(row: str, gold: float | None, world: str = "w", seed: int = 0, loss: float | None = None) -> Tried:
    return {
        "row": row, "world": world, "seed": seed, "gold": gold, "proxy": None, "temperature": None, "kl": None,
        "improves": None, "loss": loss, "error": None,
    }  # fmt: skip


def test_points_are_the_defaults_and_a_sequence_that_fills_the_space_the_same_everywhere(tmp_path: Path) -> None:
    points = Study(tmp_path / "a", "x", SPACE, PRESENT).points(16)
    assert points[0] == Point("defaults", {})
    assert [point.row for point in points[1:]] == [f"point-{number:02d}" for number in range(1, 17)]
    assert points == Study(tmp_path / "b", "x", SPACE, PRESENT).points(16)
    for name, values in SPACE.items():
        assert all(point.settings[name] in values for point in points[1:])
    # Sixteen points of a Sobol sequence: one in each sixteenth of a range, each of two values eight times.
    rates = sorted(float(str(point.settings["learning_rate"])) for point in points[1:])
    assert all(
        1e-5 * 10 ** (3 * n / 16) * 0.94 <= rate <= 1e-5 * 10 ** (3 * (n + 1) / 16) * 1.06
        for n, rate in enumerate(rates)
    )
    assert sum(point.settings["batch_size"] == 8 for point in points[1:]) == 8


def test_a_study_that_was_begun_goes_on_with_the_same_points(tmp_path: Path) -> None:
    begun = Study(tmp_path, "x", SPACE, PRESENT)
    first = begun.points(3)
    begun.tell({"defaults": 0.1, "point-01": None, "point-02": 0.3, "point-03": 0.2})
    again = Study(tmp_path, "x", SPACE, PRESENT)
    assert again.points(5)[:4] == first
    assert again.points(5) == Study(tmp_path / "fresh", "x", SPACE, PRESENT).points(5)


def test_another_space_in_the_same_folder_is_another_study(tmp_path: Path) -> None:
    Study(tmp_path, "x", SPACE, PRESENT).points(2)
    other: Space = {"learning_rate": LEARNING_RATES}
    assert set(Study(tmp_path, "x", other, PRESENT).points(2)[1].settings) == {"learning_rate"}


def test_a_point_is_worth_its_mean_and_nothing_if_it_failed_once() -> None:
    found = [tried("a", 0.2), tried("a", 0.4, "v"), tried("b", 0.9), tried("b", None, "v")]
    assert worth(found, "gold") == {"a": pytest.approx(0.3), "b": None}


def test_the_less_a_loss_the_more_a_point_is_worth() -> None:
    found = [tried("a", None, loss=0.7), tried("b", None, loss=0.5)]
    values = worth(found, "loss")
    assert [point.row for point in best_first([Point("a", {}), Point("b", {})], values)] == ["b", "a"]


def test_the_best_comes_first_failed_points_last_and_equal_ones_as_they_were() -> None:
    points = [Point(name, {}) for name in ("failed", "low", "tied", "high", "also")]
    values = {"failed": None, "low": -0.1, "tied": 0.2, "high": 0.5, "also": 0.2}
    assert [point.row for point in best_first(points, values)] == ["high", "tied", "also", "low", "failed"]


def test_a_point_that_misses_its_own_objective_is_behind_all_that_improve_it() -> None:
    points = [Point(name, {}) for name in ("failed", "worse", "best", "good")]
    values = {"failed": None, "worse": 0.1, "best": 0.9, "good": 0.3}
    assert [point.row for point in best_first(points, values, {"best"})] == ["good", "worse", "best", "failed"]
    found = [tried("good", 0.3), tried("best", 0.9), tried("best", 0.9, "v")]
    found[0]["improves"], found[1]["improves"], found[2]["improves"] = True, True, False
    assert missing_their_objective(found) == {"best"}  # in one world is enough


def test_the_second_round_trains_no_settings_twice() -> None:
    settings = {"defaults": {}, "same": {"rate": 1e-4}, "good": {"rate": 2e-4}, "worse": {"rate": 3e-4}}
    points = [Point(name, its) for name, its in settings.items()]
    values = {"defaults": 0.5, "same": 0.5, "good": 0.4, "worse": 0.3}
    assert [point.row for point in defaults_first(points, {"rate": 1e-4}, values, set())] == [
        "defaults",
        "good",
        "worse",
    ]


@pytest.mark.parametrize(("holds", "compared"), [("point-02", [3]), ("point-04", [3, 5]), (None, [3, 5, 6])])
def test_a_search_goes_on_to_the_next_best_points_while_all_that_it_compared_miss_their_objective(
    holds: str | None, compared: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def found(points: Sequence[Point]) -> list[Tried]:  # the lower its number, the more gold a point has
        return [tried(point.row, -place) | {"improves": point.row == holds} for place, point in enumerate(points)]

    def second(rounds: Any, some: Sequence[Point], *_: object) -> tuple[list[Tried], float]:
        seen.append(len(some))
        return found(some), 4.0

    monkeypatch.setattr(command, "_second_round", second)
    plan = SimpleNamespace(budget=1.0, probe={"environment": {}})
    rounds: Any = SimpleNamespace(
        name="dpo", algorithm=plugins().algorithm("dpo"), spec=read(None, "smoke", {}), fixed={}, by="gold", workers=1,
        folder=tmp_path, first=lambda *_: plan, seconds=lambda *_: 1.0,
        run=lambda plan, points, *_: [{**one, "improves": True} for one in found(points)],
    )  # fmt: skip
    command._search(rounds, ["w"], 5, 2, 1, "zoo tune-defaults dpo", False)
    assert seen == compared
    log = json.loads((tmp_path / "tuning.json").read_text())
    assert log["winner"]["row"] == (holds or "defaults")
    assert len(log["rounds"][1]["found"]) == compared[-1]


@pytest.mark.parametrize(("good_misses", "winner"), [(False, "good"), (True, "defaults")])
def test_the_present_defaults_stay_where_every_point_misses_its_own_objective(good_misses: bool, winner: str) -> None:
    found = [tried("defaults", 0.1), tried("good", 0.3), tried("best", 0.9), tried("failed", None)]
    for one, misses in zip(found[:3], (True, good_misses, True), strict=True):
        one["improves"] = not misses
    points = [Point(one["row"], {}) for one in found]
    others = {name: None for name in ("algorithm", "spec", "fixed", "budgets", "environment", "name")} | {"present": {}}
    search = Search(points=points, first=found, second=found, space={}, by="gold", **others)  # type: ignore[arg-type]
    assert search.winner().row == winner
    assert ("all that were tried missed their own objective" in search.in_words()[0]) == good_misses


def test_a_world_takes_everything_of_its_own_and_leaves_what_is_the_users(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"prompt": "a"}\n')
    spec = read(None, "quick", {"prompts": str(tmp_path / "mine.jsonl")})
    other = in_world(spec, "tinytown/2")
    assert (other.base, other.demonstrations) == ("tinytown/2:base", "tinytown/2:demonstrations")
    assert (other.preferences, other.gold, other.judge) == tuple(
        f"tinytown/2:{n}" for n in ("preferences", "gold", "judge")
    )
    assert (other.prompts, other.reward) == (str(tmp_path / "mine.jsonl"), "preferences")
    assert world_of(in_world(other, "tinytown")) == "tinytown"


def test_a_base_of_no_world_has_no_other_worlds(world: Path) -> None:
    with pytest.raises(SpecError, match="is of no world"):
        in_world(read(world / "spec.yaml", None, {}), "tinytown/1")


@dataclass(frozen=True)
class Settings:
    SEARCH: ClassVar[Any] = {}
    rate: float = 1e-4
    size: int = 8


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"speed": LEARNING_RATES}, "'speed', which is none of its settings"),
        ({"rate": Range(1e-3, 1e-2)}, "rate=0.0001 is not in its search space"),
        ({"size": Choice((16, 32))}, "size=8 is not in its search space"),
        ({name: LEARNING_RATES for name in "abcde"}, "5 dimensions; 4 is the most"),
    ],
)
def test_a_space_that_cannot_be_searched_is_the_plugins_fault(
    space: Space, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Settings, "SEARCH", space)
    with pytest.raises(PluginError, match=message):
        space_of(Settings, "x")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Range(1, 1),
        lambda: Range(0, 1, log=True),
        lambda: Range(0.5, 2, whole=True),
        lambda: Range(0, float("inf")),
        lambda: Choice((1,)),
        lambda: Defaults("tuned"),
        lambda: Defaults("hand-set", points=16),
        lambda: Defaults("tuned", points=2, beat_sft=3),
    ],
)
def test_a_dimension_or_an_origin_that_makes_no_sense_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        wrong()


def test_only_what_was_chosen_is_changed_in_a_source(tmp_path: Path) -> None:
    text = (
        'class Other:\n    beta: float = 0.1\n\n\nclass Mine:\n    """β of the paper."""\n\n'
        '    DEFAULTS: ClassVar[Defaults] = Defaults("hand-set")\n'
        "    beta: float = 0.1  # β\n    rows: int = (\n        4\n    )\n"
    )
    (tmp_path / "config.py").write_text(text, encoding="utf-8")
    values = {"beta": 0.25, "rows": 8, "DEFAULTS": 'Defaults("tuned", points=16, beat_sft=3)'}
    assert with_defaults(tmp_path / "config.py", "Mine", values) == text[: text.index("class Mine")] + (
        'class Mine:\n    """β of the paper."""\n\n    DEFAULTS: ClassVar[Defaults] = Defaults("tuned", points=16, '
        "beat_sft=3)\n    beta: float = 0.25  # β\n    rows: int = (\n        8\n    )\n"
    )
    with pytest.raises(StorageError, match="does not set speed"):
        with_defaults(tmp_path / "config.py", "Mine", {"speed": 1})


def test_the_commit_is_that_of_the_plugins_own_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "outside_of_git.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert commit_of("outside_of_git.plugin") is None


@pytest.mark.parametrize(
    ("values", "value", "expected"),
    [
        (Range(1e-5, 1e-2, log=True), 1.2e-5, True),
        (Range(1e-5, 1e-2, log=True), 1e-3, False),
        (Range(0.0, 0.3), 0.29, True),
        (Choice((64, 128, 256)), 256, True),
        (Choice((64, 128, 256)), 128, False),
        (Choice((1, 2)), 2, False),  # of two numbers each is an end
        (Choice(("linear", "cosine", "none")), "none", False),
    ],
)
def test_a_winner_at_an_end_of_its_space_is_told(values: Range | Choice, value: Any, expected: bool) -> None:
    assert is_at_edge(values, value) is expected


@pytest.fixture(scope="module")
def small(world: Path, written: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec that is searched in seconds."""
    folder = tmp_path_factory.mktemp("small")
    values = {**written, **FAST, "gold": "judge:share_of_a"}
    for key in ("base", "demonstrations", "preferences", "prompts"):
        values[key] = str(world / values[key])
    (folder / "judge.py").write_text((world / "judge.py").read_text())
    (folder / "spec.yaml").write_text(yaml.safe_dump(values))
    return folder / "spec.yaml"


@pytest.fixture(scope="module")
def searched(small: Path, zoo: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("searched")
    done = zoo("tune-defaults", "dpo", small, *SHORT, "--output", folder, cwd=folder)
    assert done.returncode == 0, done.stderr + done.stdout
    return folder, done


def log_of(folder: Path, name: str = "dpo") -> Any:
    return json.loads((folder / name / "tuning.json").read_text())


def test_a_search_says_which_settings_are_best_and_how_they_were_found(searched: tuple[Path, Any]) -> None:
    folder, done = searched
    log = log_of(folder)
    first, second = log["rounds"]
    assert {one["row"] for one in first["found"]} == {"defaults", "sft-as-it-is", *(f"point-0{n}" for n in (1, 2, 3))}
    assert len({one["row"] for one in second["found"]}) == 2
    assert {one["seed"] for one in first["found"]} == {1000}
    assert {one["seed"] for one in second["found"]} == {1001}
    golds = {one["row"]: one["gold"] for one in second["found"]}
    assert golds[log["winner"]["row"]] == max(golds.values())
    assert log["winner"]["settings"] == log["points"][log["winner"]["row"]]
    sft = next(one["gold"] for one in first["found"] if one["row"] == "sft-as-it-is")
    points = [one["gold"] for one in first["found"] if one["row"].startswith("point")]
    assert log["beat_sft"] == sum(gold > sft for gold in points)
    assert {"commit", "code"} <= set(log)
    assert log["environment"]["torch"]
    assert "ended above sft" in done.stdout


def test_a_first_round_has_a_quarter_of_what_stages_leave(searched: tuple[Path, Any]) -> None:
    folder, _ = searched
    record = json.loads((folder / "dpo" / "quarter" / "records" / "defaults-seed1000.json").read_text())
    stages = sum(stage["flops"] for stage in record["stages"])
    assert record["flops_budget"] == pytest.approx(stages + 0.25 * (FAST["budget"] - stages), rel=0.05)  # type: ignore[operator]


def test_settings_that_are_not_searched_are_the_users_in_every_point(searched: tuple[Path, Any], small: Path) -> None:
    folder, _ = searched
    log = log_of(folder)
    assert log["points"]["defaults"]["beta"] == 0.3  # the spec's; the plugin's own default is another
    assert plugins().algorithm("dpo").load_config()().beta != 0.3


def test_the_same_command_again_trains_nothing_and_leaves_the_same_log(
    searched: tuple[Path, Any], small: Path, zoo: Any
) -> None:
    folder, _ = searched
    before = (folder / "dpo" / "tuning.json").read_bytes()
    stamps = {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")}
    again = zoo("tune-defaults", "dpo", small, *SHORT, "--output", folder, cwd=folder)
    assert again.returncode == 0, again.stderr
    assert (folder / "dpo" / "tuning.json").read_bytes() == before
    assert stamps == {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")}


def test_a_search_that_was_killed_goes_on_to_the_same_log(
    searched: tuple[Path, Any], small: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """`kill -9` in the first round, with an empty cache of stages."""
    own = {**environment, "ZOO_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "zoo_harness.start", "tune-defaults", "dpo", str(small), *SHORT]
    command += ["--output", str(tmp_path / "out"), "--workers", "1"]
    search = subprocess.Popen(command, cwd=tmp_path, env=own, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not any((tmp_path / "out" / "dpo" / "quarter" / "cells").glob("*/result.json")):
        assert search.poll() is None
        time.sleep(0.05)
    os.kill(search.pid, signal.SIGKILL)
    search.wait()
    assert not (tmp_path / "out" / "dpo" / "tuning.json").exists()
    done = subprocess.run(command, cwd=tmp_path, env=own, capture_output=True, text=True, timeout=580, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "dpo" / "tuning.json").read_bytes() == (searched[0] / "dpo" / "tuning.json").read_bytes()


def test_a_point_that_does_not_fit_in_the_budget_has_failed_and_the_others_go_on(
    small: Path, zoo: Any, tmp_path: Path
) -> None:
    """RAFT's stage is one update: 16 samples to each of 32 prompts cost more than there is, 4 do not."""
    values = {**yaml.safe_load(small.read_text()), "algorithms": ["sft", {"name": "raft", "batch_size": 12}]}
    (tmp_path / "judge.py").write_text((small.parent / "judge.py").read_text())
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump({**values, "budget": 1.16e9}))
    done = zoo("tune-defaults", "raft", tmp_path / "spec.yaml", *SHORT, "--output", tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    first = log_of(tmp_path, "raft")["rounds"][0]["found"]
    errors = {one["row"]: one["error"] for one in first}
    assert any("too small for one update" in error for error in errors.values() if error)
    assert all(one["gold"] is None for one in first if one["error"])
    assert sum(one["gold"] is not None for one in first) >= 2


def test_recipes_within_a_standard_error_of_the_best_are_as_good_as_it() -> None:
    """Differences to the best: .01 ± .03 (error .03 / √3 = .017) is as good; .03 ± .01 (error .006) is not."""
    losses = {
        "best": (1.0, 1.0, 1.0),
        "close": (0.98, 1.01, 1.04),
        "worse": (1.02, 1.03, 1.04),
        "failed": (1.0, None, 1.0),
    }
    found: list[Any] = [
        {"row": row, "world": "w", "seed": seed, "loss": loss}
        for row, values in losses.items()
        for seed, loss in enumerate(values)
    ]
    assert as_good_as("best", found) == {"best", "close"}


@pytest.mark.parametrize("name", ["reward-model", "sft"])
def test_the_recipe_of_a_stage_is_chosen_by_its_loss_on_unseen_rows(
    name: str, small: Path, zoo: Any, tmp_path: Path
) -> None:
    done = zoo("tune-defaults", "--stage", name, small, *SHORT, "--output", tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    log = log_of(tmp_path, f"stage-{name}")
    losses = {one["row"]: one["loss"] for one in log["rounds"][1]["found"]}
    least = min(losses, key=losses.__getitem__)
    equal = as_good_as(least, log["rounds"][1]["found"])
    rates = {row: log["points"][row]["learning_rate"] for row in equal}
    expected = "defaults" if "defaults" in equal else min(rates, key=rates.__getitem__)
    assert log["winner"]["row"] == expected
    assert (log["by"], log["winner_by_proxy"]) == ("loss", None)
    assert "epochs" not in log["space"]  # what a stage costs is charged to everyone: it is not searched


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Missing argument"),
        (("nothing",), "no installed plugin"),
        (("dpo", "a.yaml", "b.yaml"), "one spec at a time"),
        (("--stage", "dpo"), "makes no stage for others"),
        (("dpo", "--worlds", "tinytown,tinytown/77"), "not built yet"),
        (("dpo", "--worlds", "tinytown,tinytown"), "name each world once"),
        (("dpo", "--worlds", "tinytown,"), "name each world once"),
        (("--stage", "sft", "--write"), "write it there by hand"),
    ],
)
def test_a_mistake_ends_with_one_message_before_anything_is_trained(
    arguments: tuple[str, ...], message: str, zoo: Any, tmp_path: Path
) -> None:
    done = zoo("tune-defaults", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_every_search_space_is_shown_as_data(zoo: Any, tmp_path: Path) -> None:
    shown = json.loads(zoo("plugins", "show", "dpo", "--json", cwd=tmp_path).stdout)
    rate = next(one for one in shown["settings"] if one["name"] == "learning_rate")
    assert rate["search"] == {"low": 1e-5, "high": 1e-2, "log": True, "whole": False}
    assert shown["defaults"]["source"] in ("hand-set", "paper", "tuned")
    assert "1e-05 to 0.01 (log)" in zoo("plugins", "show", "dpo", cwd=tmp_path).stdout
