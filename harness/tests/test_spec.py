"""The spec: flags over file over preset, and a message that names the key for everything that is wrong."""

import math
import re
from pathlib import Path

import pytest
import yaml
from zoo_harness.options import _read
from zoo_harness.spec.presets import PRESETS
from zoo_harness.spec.read import read
from zoo_harness.spec.schema import Spec
from zoo_harness.spec.settings import configure

from zoo_core.errors import SpecError
from zoo_core.records import Tracker
from zoo_core.registry.plugins import plugins


def write(folder: Path, text: str) -> Path:
    file = folder / "my bench.yaml"
    file.write_text(text)
    return file


def test_flags_go_over_the_file_and_the_file_over_the_preset(tmp_path):
    file = write(tmp_path, "preset: smoke\nseeds: 4\nbudget: 1e12\nlimits: {prompts: 7}")
    spec = read(file, None, {"budget": "2e12"})
    assert (spec.budget, spec.seeds, spec.limits.prompts) == (2e12, 4, 7)
    assert spec.limits.preference_labels == PRESETS["smoke"]["limits"]["preference_labels"]


def test_a_flag_names_another_preset_than_the_file(tmp_path):
    spec = read(write(tmp_path, "preset: quick"), "smoke", {})
    assert (spec.preset, spec.budget) == ("smoke", PRESETS["smoke"]["budget"])


def test_relative_paths_are_relative_to_the_file(tmp_path):
    (tmp_path / "pairs.jsonl").touch()
    spec = read(write(tmp_path, "base: some/model\npreferences: pairs.jsonl\nprompts: absent.jsonl"), None, {})
    assert spec.preferences == str(tmp_path / "pairs.jsonl")
    assert spec.prompts == str(tmp_path / "absent.jsonl")
    assert spec.base == "some/model"  # no such folder here, so it stays a hub id
    (tmp_path / "saved").mkdir()
    spec = read(
        write(tmp_path, "preferences: saved#test\nprompts: a.jsonl.gz\ndemonstrations: org/name#test"), None, {}
    )
    assert spec.preferences == str(tmp_path / "saved#test")
    assert spec.prompts == str(tmp_path / "a.jsonl.gz")
    assert spec.demonstrations == "org/name#test"


def test_a_world_brings_its_own_data_judge_and_tasks():
    assert read(None, "quick", {}).tasks == ["tinytown_facts", "tinytown_sums"]
    spec = read(None, "quick", {"base": "tinytown/1:base", "gold": "my:judge"})
    assert (spec.demonstrations, spec.prompts) == ("tinytown/1:demonstrations", "tinytown/1:prompts")
    assert spec.gold == "my:judge"
    assert not {"tinytown_facts", "tinytown_sums"} & set(spec.tasks)


@pytest.mark.parametrize("text", ["none", "", " "])
def test_a_flag_can_say_that_there_are_no_tasks(text):
    flags = {**dict.fromkeys(["spec", "settings"]), "preset": "smoke"}
    assert _read(flags, {}).tasks
    assert _read({**flags, "tasks": text}, {}).tasks == []
    assert _read({**flags, "tasks": "tinytown_facts, tinytown_sums"}, {}).tasks == ["tinytown_facts", "tinytown_sums"]


def test_settings_reach_their_row():
    flags = {"algorithms": ["sft", "ppo"]}
    spec = read(None, "smoke", flags, {"ppo.epochs": 3, "limits.prompts": 9, "seeds": 2})
    assert [entry.settings for entry in spec.algorithms] == [{}, {"epochs": 3}]
    assert (spec.limits.prompts, spec.seeds) == (9, 2)


def test_a_row_that_is_named_on_the_command_line_keeps_its_settings_in_the_file(tmp_path):
    (tmp_path / "mine.yaml").write_text("algorithms: [sft, {name: ppo, epochs: 3}, {name: ppo, row: long, epochs: 8}]")
    spec = read(tmp_path / "mine.yaml", "smoke", {"algorithms": ["ppo", "dpo", "long"]})
    assert [(entry.row, entry.settings) for entry in spec.algorithms] == [
        ("ppo", {"epochs": 3}),
        ("dpo", {}),
        ("long", {"epochs": 8}),
    ]


@pytest.mark.parametrize("named", [{"algorithms": ["all"]}, {"algorithms": ["ppo", "all"]}, None])
def test_all_are_the_rows_of_the_file_and_whatever_else_is_installed(tmp_path, named):
    in_file = "[{name: ppo, epochs: 3}, {name: ppo, row: long, epochs: 8}" + (", all]" if named is None else "]")
    (tmp_path / "mine.yaml").write_text(f"algorithms: {in_file}")
    rows = {entry.row: entry.settings for entry in read(tmp_path / "mine.yaml", "smoke", named or {}).algorithms}
    assert (rows["ppo"], rows["long"]) == ({"epochs": 3}, {"epochs": 8})
    assert rows.keys() >= {"sft", "dpo", "grpo", "rlaif", "d-rlaif", "gkd", "orpo"}
    assert not rows.keys() & {"reward-model", "sft-chosen"}  # a stage, and a row that is always there


def test_all_may_stand_alone_in_a_file(tmp_path):
    (tmp_path / "mine.yaml").write_text("algorithms: all")
    assert len(read(tmp_path / "mine.yaml", "smoke", {}).algorithms) > 20


def test_two_rows_of_one_algorithm_need_two_names():
    rows = [{"name": "ppo"}, {"name": "ppo", "row": "ppo-strong", "kl_coefficient": 0.5}]
    assert [entry.row for entry in read(None, None, {"algorithms": rows}).algorithms] == ["ppo", "ppo-strong"]
    with pytest.raises(SpecError, match="two rows are called 'ppo'"):
        read(None, None, {"algorithms": ["ppo", "ppo"]})


@pytest.mark.parametrize(("words", "seconds"), [("90s", 90.0), ("1.5m", 90.0), ("2h", 7200.0)])
def test_a_budget_may_be_a_time(words, seconds):
    assert read(None, None, {"budget": words}).budget_seconds == seconds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("budgte: 1e12", r"my bench.yaml: budgte: there is no such key. Did you mean 'budget'\?"),
        ("limits: {promts: 3}", r"limits.promts: there is no such key. Did you mean 'prompts'\?"),
        ("seeds: none", "seeds: .*got 'none'"),
        ("budget: soon", r"budget: 'soon' is neither FLOPs \(2e13\) nor a time"),
        ("budget: -1", "budget: a budget must be above 0"),
        ("algorithms: [sft, {name: '../x'}]", "algorithms.1.row: the row name '../x'"),
        ("evaluation: {temperatures: [-1]}", "temperatures: a temperature is 0 or more and finite, got -1"),
        (
            "evaluation: {temperatures: [.nan]}",
            "temperatures: a temperature is 0 or more and finite, got nan",
        ),
        ("base: [", "this is not YAML"),
        ("just words", "a spec must be a list of `key: value` lines"),
    ],
)
def test_a_malformed_spec_names_the_key_and_the_value(tmp_path, text, message):
    with pytest.raises(SpecError, match=message):
        read(write(tmp_path, text), None, {})


def test_an_unknown_preset_is_answered_with_the_known_ones():
    with pytest.raises(SpecError, match=r"no preset 'quik'. Did you mean 'quick'\? Known: board, full, quick, smoke"):
        read(None, "quik", {})


def test_a_missing_spec_file_is_named(tmp_path):
    with pytest.raises(SpecError, match="there is no such file"):
        read(tmp_path / "absent.yaml", None, {})


@pytest.mark.parametrize("name", ["base", "start"])
def test_a_row_cannot_take_the_name_of_a_reference_row(name):
    with pytest.raises(SpecError, match=f"a row cannot be called '{name}'"):
        read(None, None, {"algorithms": [{"name": "sft", "row": name}]})


def test_the_keyword_preferences_is_no_folder_of_that_name(tmp_path):
    (tmp_path / "preferences").mkdir()
    assert read(write(tmp_path, "reward: preferences\nprompts: a.jsonl"), None, {}).reward == "preferences"


@pytest.mark.parametrize("changes", [{"stages.sft": 3}, {"stages": 3, "stages.sft.learning_rate": 1}], ids=str)
def test_what_is_no_setting_of_a_stage_is_named_with_its_value(changes):
    *_, (key, value) = changes.items()
    with pytest.raises(SpecError, match=f"{key}={value} is no setting of a stage; write stages.STAGE.SETTING=VALUE"):
        read(None, None, {}, changes)


def test_a_stage_without_settings_in_a_file_takes_one(tmp_path):
    spec = read(write(tmp_path, "stages: {sft: }"), None, {}, {"stages.sft.learning_rate": 0.001})
    assert spec.stages["sft"] == {"learning_rate": 0.001}


@pytest.mark.parametrize("setting", ["learning_rate", "beta", "max_grad_norm"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_setting_that_is_not_finite_is_named(setting, value):
    with pytest.raises(SpecError, match=f"{setting}: {value} is not finite; write a number"):
        configure(plugins().algorithm("dpo"), {setting: value})


@pytest.mark.parametrize("name", ["dpo", "ppo", "rlaif"])
def test_a_learning_rate_below_0_is_named(name):
    with pytest.raises(SpecError, match=r"learning_rate: -0\.1 is below 0"):
        configure(plugins().algorithm(name), {"learning_rate": -0.1})


def test_settings_of_the_wrong_shape_are_named(tmp_path):
    with pytest.raises(SpecError, match="limits"):
        read(write(tmp_path, "limits: 5"), None, {}, {"limits.prompts": 3})
    with pytest.raises(SpecError, match="there is no preset 5"):
        read(write(tmp_path, "preset: 5"), None, {})


def test_a_key_that_is_there_twice_is_named_with_both_lines(tmp_path):
    (tmp_path / "spec.yaml").write_text("base: x\nbudget: 1e9\nseeds: 2\nbudget: 2e9\n")
    with pytest.raises(SpecError, match=r"spec.yaml: the key 'budget' is there twice, in lines 2 and 4"):
        read(tmp_path / "spec.yaml", None, {})
    (tmp_path / "spec.yaml").write_text("base: x\nlimits:\n  prompts: 3\n  prompts: 4\n")
    with pytest.raises(SpecError, match=r"the key 'prompts' is there twice, in lines 3 and 4"):
        read(tmp_path / "spec.yaml", None, {})


def test_a_spec_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "spec.yaml").write_text("\ufeffbase: x\r\nseeds: 2\r\n", newline="")
    assert read(tmp_path / "spec.yaml", None, {}).seeds == 2


@pytest.mark.parametrize(
    ("key", "value"),
    [("seeds", True), ("budget", True), ("limits.prompts", True), ("evaluation.temperatures", [0, True])],
)
def test_true_is_no_number(key, value):
    with pytest.raises(SpecError, match=r"True.* is no number; write one"):
        read(None, "smoke", {}, {key: value})


@pytest.mark.parametrize("brought", [True, False])
def test_an_unknown_tracker_is_answered_with_the_nearest_and_with_what_to_install(brought, monkeypatch):
    if not brought:
        monkeypatch.setattr(plugins(), "trackers", {})
    nearest = "Did you mean 'tensorboard'" if brought else "Known: none."
    with pytest.raises(
        SpecError, match=rf"^tracker: .*'tensorbord'. {nearest}.*pip install 'zoo-trackers\[tensorboard\]'"
    ):
        read(None, "smoke", {"tracker": "tensorbord"})


def test_a_tracker_without_its_package_is_answered_with_what_to_install(monkeypatch):
    mine = Tracker(name="mine", summary="-", module="no_such_package", install="zoo-mine[it]")
    monkeypatch.setitem(plugins().trackers, "mine", mine)
    with pytest.raises(SpecError, match=r"needs the package no_such_package.*: pip install 'zoo-mine\[it\]'$"):
        read(None, "smoke", {"tracker": "mine"})


def test_the_page_on_data_shows_every_key_of_a_spec() -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    shown = yaml.safe_load(re.search(r"```yaml\n(.*?)```", page, re.DOTALL)[1])
    assert set(shown) == set(Spec.model_fields) - {"folder"}  # the folder is where the file stands
    Spec(**shown)
