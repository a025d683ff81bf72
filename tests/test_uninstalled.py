"""A file or a project's folder can be a plugin without being installed, in every process that inherits $ZOO_PLUGINS."""

import json
import os
import subprocess
import sys

import pytest

from zoo_core.errors import PluginError
from zoo_core.registry.uninstalled import VARIABLE, use_plugins

PLUGIN = """
from dataclasses import dataclass
from zoo_core.hookspecs import hookimpl
from zoo_core.records import Algorithm

@dataclass(frozen=True)
class Config:
    pass

def train(config, run):
    yield {{}}

@hookimpl
def zoo_algorithms():
    return [Algorithm(name="{name}", summary="-", paper="-", config=__name__ + ":Config", train=__name__ + ":train",
                      learns_from=("prompts",))]
"""
PROJECT = '[project]\nname = "zoo-far"\nversion = "3.4"\n[project.entry-points.zoo]\nfar = "zoo_far.plugin"\n'


@pytest.fixture(autouse=True)
def _no_others(monkeypatch):
    monkeypatch.setenv(VARIABLE, "")


def listed(*paths):
    """What a process that inherits the variable says of the plugins of these files."""
    code = (
        "import json; from zoo_core.registry.plugins import plugins;"
        "print(json.dumps([vars(one) for one in plugins().plugins if one.path]))"
    )
    environment = {**os.environ, VARIABLE: os.pathsep.join(map(str, paths))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def project(folder, package):
    """Write the folder of a project whose package lies at this place in it."""
    (folder / package / "zoo_far").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / package / "zoo_far" / "__init__.py").touch()
    (folder / package / "zoo_far" / "plugin.py").write_text(PLUGIN.format(name="far"))
    return folder


def test_a_file_is_a_plugin(tmp_path):
    file = tmp_path / "near.py"
    file.write_text(PLUGIN.format(name="near"))
    (plugin,) = listed(file)
    assert (plugin["status"], plugin["provides"], plugin["path"]) == ("ok", ["near"], str(file))


@pytest.mark.parametrize("package", [".", "src"])
def test_the_folder_of_a_project_is_the_plugins_of_its_entry_points(tmp_path, package):
    (plugin,) = listed(project(tmp_path / "far", package))
    assert (plugin["status"], plugin["provides"]) == ("ok", ["far"])
    assert (plugin["distribution"], plugin["version"]) == ("zoo-far", "3.4")


def test_its_fault_names_the_path_and_asks_nobody_to_uninstall_it(tmp_path):
    file = tmp_path / "bad.py"
    file.write_text("from zoo_core.hookspecs import hookimpl\n@hookimpl\ndef zoo_nothing():\n    return []\n")
    (plugin,) = listed(file)
    assert (plugin["status"], plugin["path"]) == ("broken", str(file))
    assert "unknown hook 'zoo_nothing'" in plugin["reason"]


def test_what_use_plugins_was_given_is_inherited_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(PLUGIN.format(name=name))
    use_plugins([tmp_path / "one.py"])
    use_plugins([tmp_path / "two.py", tmp_path / "one.py"])
    assert os.environ[VARIABLE] == f"{tmp_path / 'one.py'}{os.pathsep}{tmp_path / 'two.py'}"


def test_nothing_beside_a_file_hides_a_library(tmp_path):
    (tmp_path / "json.py").write_text("raise RuntimeError('the wrong json')")
    (tmp_path / "pluggy.py").write_text("raise RuntimeError('the wrong pluggy')")
    (tmp_path / "near.py").write_text(PLUGIN.format(name="near"))
    assert listed(tmp_path / "near.py")[0]["status"] == "ok"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("gone.py", None, r"gone\.py: there is no such file or folder"),
        ("words.txt", "text", r"words\.txt: it is no Python file"),
        ("a-b.py", "", "'a-b' cannot be imported; rename the file"),
        ("json.py", "", "its module 'json' would hide, or be hidden by, .*json"),
        ("torch.py", "", "its module 'torch' would hide, or be hidden by, .*torch"),
        ("empty/notes.txt", "", r"empty: there is no pyproject\.toml"),
        ("odd/pyproject.toml", "[project", r"odd.pyproject\.toml: it cannot be read"),
        ("none/pyproject.toml", "[project]\nname = 'x'\n", r"there is no entry point. Write \[project\.entry-points"),
        ("text/pyproject.toml", "project = 'x'\n", r"pyproject\.toml: project = 'x' must be a table"),
        ("list/pyproject.toml", "[project]\nentry-points = []\n", r"entry-points = \[\] must be a table"),
        ("flat/pyproject.toml", "[project.entry-points]\nzoo = 'x'\n", "zoo = 'x' must be a table"),
        ("three/pyproject.toml", "[project.entry-points.zoo]\nx = 3\n", "x = 3 must be a text"),
        ("named/pyproject.toml", PROJECT.replace('"3.4"', "2"), "version = 2 must be a text"),
        (
            "dash/pyproject.toml",
            "[project.entry-points.zoo]\nx = 'zoo-x'\n",
            "'x' = 'zoo-x' names no module; write NAME",
        ),
        ("two/pyproject.toml", "[project.entry-points.zoo]\n'x = y' = 'x'\n", "'x = y' = 'x' names no module"),
        ("lost/pyproject.toml", PROJECT, "the module 'zoo_far' of its entry point is not in"),
    ],
)
def test_what_cannot_be_a_plugin_is_refused_with_the_remedy(tmp_path, name, content, said):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    if content is not None:
        file.write_text(content)
    with pytest.raises(PluginError, match=said):
        use_plugins([file if file.parent == tmp_path else file.parent])
    assert os.environ[VARIABLE] == ""


def test_a_variable_that_names_nothing_is_told_and_does_not_break_other_libraries(tmp_path):
    code = (
        "from importlib.metadata import version\nfrom zoo_core.errors import PluginError\n"
        "from zoo_core.registry.plugins import load\ntry:\n    load()\nexcept PluginError as error:\n"
        "    print(version('pluggy'), error)"
    )
    environment = {**os.environ, VARIABLE: str(tmp_path / "gone.py")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "gone.py: there is no such file or folder" in done.stdout
