"""What a README of an algorithm says of its settings and metrics is what the code has."""

import dataclasses
import re
import runpy
from itertools import islice
from pathlib import Path

import pytest

from zoo_core.registry.plugins import plugins
from zoo_core.registry.spaces import defaults_of
from zoo_core.run import Run
from zoo_core.testing.tiny import tiny_folder, tiny_session

ROOT = Path(__file__).parents[1]
UPDATES = 8
"""So many on the tiny rows, and every loop of an algorithm has begun."""
SHORT = {
    "rlaif": {"pairs": 32},
    "cai": {"pairs": 32, "revised_prompts": 32, "reward_epochs": 1.0},
    "gkd": {"teacher": str(tiny_folder())},
}
"""Settings of those whose first loops would be longer, and of the one that has no default for what it learns from."""


def folder(record):
    """Return the folder of the distribution that an algorithm comes from; it may bring several."""
    return ROOT / "plugins" / record.train.partition(".")[0].removeprefix("zoo_").replace("_", "-")


ALGORITHMS = [record for record in plugins().algorithms.values() if folder(record).is_dir()]

each_algorithm = pytest.mark.parametrize("record", ALGORITHMS, ids=lambda record: record.name)


def table(record, heading):
    """Return the rows of the table under a heading of the README, as lists of cells without backticks.

    Where several algorithms share a README and not a table, each has a heading of its own below.
    """
    readme = (folder(record) / "README.md").read_text()
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", readme, re.MULTILINE | re.DOTALL)[1]
    if re.search("^### ", section, re.MULTILINE):
        section = re.search(rf"^### {record.name}\n(.*?)(?=^### |\Z)", section, re.MULTILINE | re.DOTALL)[1]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip(" `") for cell in re.split(r"(?<!\\)\|", line.strip("|"))] for line in lines[2:]]


@each_algorithm
def test_the_settings_of_the_readme_are_those_of_the_code_with_their_defaults(record):
    documented = [(name, default) for name, default, *_ in table(record, "Settings")]
    assert documented == [(field.name, repr(field.default)) for field in dataclasses.fields(record.load_config())]


@each_algorithm
def test_the_metrics_of_the_readme_are_those_that_a_run_yields(record):
    config = record.load_config()(**SHORT.get(record.name, {}))
    training = record.load_train()(config, Run(tiny_session(record.learns_from)))
    yielded = dict.fromkeys(key for metrics in islice(training, UPDATES) for key in metrics)
    assert [row[0] for row in table(record, "Metrics")] == list(yielded)


@each_algorithm
def test_every_function_named_in_the_equations_exists(record):
    package = record.train.partition(":")[0].rpartition(".")[0]
    (file,) = [path for name in ("loss", "selection") for path in (folder(record) / package).glob(f"{name}.py")]
    source = file.read_text()
    named = [row[1].partition("(")[0] for row in table(record, "Equations")]
    assert named
    assert sorted(named) == sorted(re.findall(r"^def (\w+)", source, re.MULTILINE))


@each_algorithm
def test_the_paper_of_the_record_is_linked(record):
    assert f"https://arxiv.org/abs/{record.paper}" in (folder(record) / "README.md").read_text()


SETTINGS = runpy.run_path(str(ROOT / "tests" / "settings.py"))
SEARCHED = [(record, log) for record in ALGORITHMS if (log := SETTINGS["logs"](folder(record)).get(record.name))]


@pytest.mark.parametrize("plugin", sorted({folder(record) for record in ALGORITHMS}), ids=lambda path: path.name)
def test_what_a_readme_says_of_a_search_is_what_its_log_says(plugin):
    """Where it does not: python tests/settings.py"""
    written = (plugin / "README.md").read_text()
    assert SETTINGS["updated"](plugin, written) == written


@pytest.mark.parametrize(("record", "log"), SEARCHED, ids=lambda one: getattr(one, "name", "log"))
def test_tuned_defaults_are_those_that_the_search_chose(record, log):
    config, defaults = record.load_config(), defaults_of(record.load_config())
    chosen = log["winner"]["settings"]
    assert {name: getattr(config(), name) for name in chosen} == chosen
    assert (defaults.source, defaults.points, defaults.beat_sft) == ("tuned", len(log["points"]) - 1, log["beat_sft"])


def test_defaults_are_called_tuned_only_where_there_is_a_log():
    tuned = {record.name for record in ALGORITHMS if defaults_of(record.load_config()).source == "tuned"}
    assert tuned == {record.name for record, _ in SEARCHED} | {"reward-model"}  # whose log is of its stage


@pytest.mark.parametrize("name", ["sft", "reward-model"])
def test_the_recipe_of_a_stage_is_the_one_that_its_search_chose(name):
    record = plugins().algorithm(name)
    log = SETTINGS["logs"](folder(record))[f"stage {name}"]
    recipe = {**vars(record.load_config()()), **record.stage}
    assert {setting: recipe[setting] for setting in log["winner"]["settings"]} == log["winner"]["settings"]
