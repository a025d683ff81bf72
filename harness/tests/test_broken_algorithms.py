"""A plugin whose algorithm cannot run is named, with place and remedy, and leaves no traceback on the screen."""

from pathlib import Path

import pytest

RECORD = """
from zoo_core.hookspecs import hookimpl
from zoo_core.records import Algorithm

@hookimpl
def zoo_algorithms():
    code = dict(config="{package}.parts:Config", train="{package}.parts:train")
    return [Algorithm(name="odd", summary="-", paper="-", learns_from=("demonstrations",), **code)]
"""
CONFIG = "from dataclasses import dataclass\n\n@dataclass(frozen=True)\nclass Config:\n    batch_size: int = 4\n\n"
MISTAKES = {
    "syntax": ("def train(config, run)\n    pass\n", "SyntaxError"),
    "missing": ("import nothing_of_that_name\n", "No module named 'nothing_of_that_name'"),
    "arguments": (CONFIG + "def train(run):\n    yield {}\n", "takes 1 positional argument"),
    "returns": (CONFIG + "def train(config, run):\n    return None\n", "NoneType"),
    "raises": (
        CONFIG + "def train(config, run):\n    for _ in run.updates():\n        yield {'loss': 1 / 0}\n",
        "Zero",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_plugin_is_named_with_its_distribution_and_the_remedy(
    world, zoo, install, tmp_path: Path, mistake: str
) -> None:
    code, said = MISTAKES[mistake]
    package = f"zoo_odd_{mistake}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("")
    (tmp_path / package / "plugin.py").write_text(RECORD.format(package=package))
    (tmp_path / package / "parts.py").write_text(code)
    install(tmp_path, "zoo-odd", "odd", f"{package}.plugin")
    done = zoo(
        "plan", world / "spec.yaml", "--algorithms", "odd", "--seeds", "1", cwd=tmp_path, PYTHONPATH=str(tmp_path)
    )
    words = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 2, words
    assert "the plugin 'odd' (zoo-odd 1.0)" in words
    assert "pip uninstall zoo-odd" in words
    assert said in words
    assert "Traceback" not in words
