"""What a README of an algorithm says of its settings and metrics is what the code has."""

import dataclasses
import re
from itertools import islice
from pathlib import Path

import pytest

from zoo_core.plugins import plugins
from zoo_core.run import Run
from zoo_core.testing import tiny_session

ROOT = Path(__file__).parents[1]
ALGORITHMS = [record for name, record in plugins().algorithms.items() if (ROOT / "plugins" / name).is_dir()]
UPDATES = 6
"""So many on the tiny rows, and every loop of an algorithm has begun."""

each_algorithm = pytest.mark.parametrize("record", ALGORITHMS, ids=lambda record: record.name)


def table(record, heading):
    """Return the rows of the table under a heading of the README, as lists of cells without backticks."""
    readme = (ROOT / "plugins" / record.name / "README.md").read_text()
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", readme, re.MULTILINE | re.DOTALL)[1]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip(" `") for cell in re.split(r"(?<!\\)\|", line.strip("|"))] for line in lines[2:]]


@each_algorithm
def test_the_settings_of_the_readme_are_those_of_the_code_with_their_defaults(record):
    documented = [(name, default) for name, default, *_ in table(record, "Settings")]
    assert documented == [(field.name, repr(field.default)) for field in dataclasses.fields(record.load_config())]


@each_algorithm
def test_the_metrics_of_the_readme_are_those_that_a_run_yields(record):
    training = record.load_train()(record.load_config()(), Run(tiny_session(record.learns_from)))
    yielded = dict.fromkeys(key for metrics in islice(training, UPDATES) for key in metrics)
    assert [row[0] for row in table(record, "Metrics")] == list(yielded)


@each_algorithm
def test_every_function_named_in_the_equations_exists(record):
    package = record.train.partition(":")[0].rpartition(".")[0]
    source = (ROOT / "plugins" / record.name / package / "loss.py").read_text()
    named = [row[1].partition("(")[0] for row in table(record, "Equations")]
    assert named
    assert sorted(named) == sorted(re.findall(r"^def (\w+)", source, re.MULTILINE))


@each_algorithm
def test_the_paper_of_the_record_is_linked(record):
    assert f"https://arxiv.org/abs/{record.paper}" in (ROOT / "plugins" / record.name / "README.md").read_text()
