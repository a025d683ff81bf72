"""What a README of an algorithm says of its settings and metrics is what the code has."""

import dataclasses
import re
from itertools import islice
from pathlib import Path

import pytest

from zoo_core.registry.plugins import plugins
from zoo_core.run import Run
from zoo_core.testing.tiny import tiny_session

ROOT = Path(__file__).parents[1]
UPDATES = 8
"""So many on the tiny rows, and every loop of an algorithm has begun."""
SHORT = {"rlaif": {"pairs": 32}, "cai": {"pairs": 32, "revised_prompts": 32, "reward_epochs": 1.0}}
"""Settings of those whose first loops would be longer."""


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
