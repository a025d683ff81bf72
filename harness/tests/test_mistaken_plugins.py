"""Mistakes of plugin authors: each is answered by name, with place and remedy, and the rows of the others go on."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

HOOK = """
from zoo_core.hookspecs import hookimpl
from zoo_core.records import Algorithm, Task

def record(**fields):
    code = {{"config": "{package}.parts:Config", "train": "{package}.parts:train"}}
    plain = {{"name": "{name}", "summary": "-", "paper": "-", "learns_from": ("demonstrations",), "by_default": False}}
    return Algorithm(**{{**plain, **code, **fields}})
"""
LISTS = HOOK + "\n@hookimpl\ndef zoo_algorithms():\n    return [record({fields})]\n"
CONFIG = (
    "from dataclasses import dataclass\n\n@dataclass(frozen=True)\nclass Config:\n    batch_size: int = 4\n"
    '    """Rows of an update."""\n'
)
LOOP = "def train(config, run):\n    for update in run.updates():\n        {}\n"
GOOD = CONFIG + LOOP.format("yield {'loss': 1.0}")


@dataclass(frozen=True)
class Mistake:
    """What an author wrote, and what is said about it."""

    said: str
    parts: str = GOOD
    fields: str = ""
    plugin: str = LISTS
    entry: str = ""
    group: str = "zoo"


def hook(body: str) -> str:
    return HOOK + body


AT_LISTING = {
    "syntax": Mistake("SyntaxError: expected ':'", plugin="def zoo_algorithms()\n    pass\n"),
    "syntax-in-train": Mistake(
        r"SyntaxError: expected ':' \(.*parts\.py:1\)", parts="def train(config, run)\n    pass\n"
    ),
    "no-module": Mistake("No module named 'nothing_of_that_name'", plugin="import nothing_of_that_name\n"),
    "exits": Mistake("SystemExit: bye", plugin="raise SystemExit('bye')\n"),
    "empty": Mistake("no hooks found", plugin=""),
    "unmarked": Mistake(
        "zoo_algorithms is not marked as a hook: write @hookimpl", plugin="def zoo_algorithms(): ...\n"
    ),
    "unknown-hook": Mistake(
        "unknown hook 'zoo_algoritms'. Did you mean 'zoo_algorithms'",
        plugin=hook("@hookimpl\ndef zoo_algoritms():\n    return []\n"),
    ),
    "argument-of-a-hook": Mistake("reference", plugin=hook("@hookimpl\ndef zoo_reward(reference): ...\n")),
    "hook-raises": Mistake("ZeroDivisionError", plugin=hook("@hookimpl\ndef zoo_algorithms():\n    return 1 / 0\n")),
    "returns-one": Mistake(
        "'Algorithm' object is not iterable", plugin=LISTS.replace("[record", "record").replace(")]", ")")
    ),
    "returns-a-dict": Mistake(
        "must return Algorithm records", plugin=hook("@hookimpl\ndef zoo_algorithms():\n    return [{{'name': 'x'}}]\n")
    ),
    "function-as-entry": Mistake("names function 'zoo_algorithms'; name the module alone", entry=":zoo_algorithms"),
    "wrong-group": Mistake(r"in the group 'zoo\.plugins'; write \[project\.entry-points\.zoo\]", group="zoo.plugins"),
    "text-for-a-tuple": Mistake(
        r'learns_from=\'preferences\' must be a tuple: write learns_from=\("preferences",\)',
        fields="learns_from=('preferences')",
    ),
    "list-for-a-tuple": Mistake("must be a tuple", fields="learns_from=['preferences']"),
    "unknown-signal": Mistake(
        "there is no signal 'preference'. Did you mean 'preferences'", fields="learns_from=('preference',)"
    ),
    "summary": Mistake("summary=None must be a text", fields="summary=None"),
    "stage": Mistake("stage=12 must be None, or the settings", fields="stage=12"),
    "truth": Mistake("competes='no' must be True or False", fields="competes='no'"),
    "name": Mistake("'My Algorithm' must be lower case", fields="name='My Algorithm'"),
    "other-api": Mistake("written for plugin API 99", fields="api_version=99"),
    "path": Mistake("names code by '.*parts.Config'; write module:attribute", fields="config='zoo_x.parts.Config'"),
    "path-to-nothing": Mistake("there is no module 'zoo_nowhere'", fields="train='zoo_nowhere:train'"),
    "misspelt": Mistake(
        "there is no 'train' in .* Did you mean 'trian'", parts=CONFIG + "def trian(config, run):\n    yield {}\n"
    ),
    "no-dataclass": Mistake("is no dataclass", parts=GOOD.replace("@dataclass(frozen=True)\n", "")),
    "not-frozen": Mistake("is not frozen", parts=GOOD.replace("(frozen=True)", "")),
    "one-argument": Mistake(
        r"takes \(run\); it is called as train\(config, run\)", parts=CONFIG + "def train(run):\n    yield {}\n"
    ),
    "swapped": Mistake(r"the order is train\(config, run\)", parts=GOOD.replace("(config, run)", "(run, config)")),
    "three-arguments": Mistake("it is called as", parts=GOOD.replace("(config, run)", "(config, run, more)")),
    "no-yield": Mistake("never yields", parts=CONFIG + LOOP.format("pass")),
    "returns": Mistake("never yields", parts=CONFIG + "def train(config, run):\n    return {'loss': 1.0}\n"),
    "async": Mistake("is not a plain function", parts=GOOD.replace("def train", "async def train")),
}
IN_PARTS = r" \(.*parts\.py:\d+\)"
WHEN_RUN = {
    "dependency": Mistake("No module named 'nothing_of_that_name'", parts=GOOD + "\nimport nothing_of_that_name\n"),
    "default": Mistake(
        "its own defaults are refused",
        parts=GOOD.replace(
            "    batch_size", "    def __post_init__(self):\n        raise ValueError('no')\n    batch_size"
        ),
    ),
    "no-start": Mistake("no installed plugin provides starts_from='nowhere'", fields="starts_from='nowhere'"),
    "raises": Mistake(
        "ZeroDivisionError: division by zero" + IN_PARTS, parts=CONFIG + LOOP.format("yield {'loss': 1 / 0}")
    ),
    "unlisted": Mistake(
        "does not list 'prompts' under learns_from" + IN_PARTS,
        parts=CONFIG + LOOP.format("yield {'n': len(run.prompts)}"),
    ),
    "no-updates": Mistake(
        "yielded outside of an update", parts=CONFIG + "def train(config, run):\n    yield {'loss': 1.0}\n"
    ),
    "asks-for-none": Mistake(
        "never asked for an update", parts=CONFIG + "def train(config, run):\n    yield from ()\n"
    ),
    "twice": Mistake(
        "yielded outside of an update", parts=CONFIG + LOOP.format("yield {'a': 1.0}\n        yield {'a': 1.0}")
    ),
    "silent-update": Mistake(
        "made an update without a yield", parts=CONFIG + LOOP.format("if update != 1:\n            yield {'a': 1.0}")
    ),
    "returns-later": Mistake(
        r"train\(\) returned \[\]; it must be a generator",
        parts=CONFIG + "def train(config, run):\n    return list(())\n",
    ),
    "float": Mistake(r"yielded 0\.5 in update 0; yield a dict", parts=CONFIG + LOOP.format("yield 0.5")),
    "nothing": Mistake("yielded None in update 0", parts=CONFIG + LOOP.format("yield")),
    "tensor": Mistake(
        r"loss=tensor.* must be a number; write \.item\(\)",
        parts=CONFIG + "import torch\n" + LOOP.format("yield {'loss': torch.ones(1)}"),
    ),
    "text": Mistake(
        "loss='low' in update 0; a metric must be a number", parts=CONFIG + LOOP.format("yield {'loss': 'low'}")
    ),
    "not-a-number": Mistake(
        "the metric 'loss' became nan in update 0", parts=CONFIG + LOOP.format("yield {'loss': float('nan')}")
    ),
    "leaves": Mistake("SystemExit: 0", parts=CONFIG + "import sys\n" + LOOP.format("sys.exit(0)\n        yield {}")),
    "leaves-at-once": Mistake(
        "exited with code 3 without a word", parts=CONFIG + "import os\n" + LOOP.format("os._exit(3)\n        yield {}")
    ),
    "is-killed": Mistake(
        "was killed by SIGKILL",
        parts=CONFIG + "import os, signal\n" + LOOP.format("os.kill(os.getpid(), signal.SIGKILL)\n        yield {}"),
    ),
    "memory": Mistake("MemoryError", parts=CONFIG + LOOP.format("raise MemoryError\n        yield {}")),
    "twice-entered": Mistake(
        "can be entered once; use .*" + IN_PARTS,
        parts=CONFIG + LOOP.format("yield {'a': 1.0}") + "    for update in run.updates():\n        yield {}\n",
    ),
    "never-ends": Mistake(
        r"an update took longer than 15 s .*\(.*parts\.py:\d+\)",
        parts=CONFIG + "import time\n" + LOOP.format("while True:\n            time.sleep(0.1)\n        yield {}"),
    ),
    "never-asks": Mistake(
        r"an update took longer than 15 s .*\(.*parts\.py:\d+\)",
        parts=CONFIG + "def train(config, run):\n    while True:\n        run.seed\n    yield {}\n",
    ),
}


def write(site: Path, install: Callable[..., None], name: str, mistake: Mistake) -> None:
    """Install a plugin that holds a mistake, as `zoo-NAME`."""
    package = f"zoo_{name.replace('-', '_')}"
    (site / package).mkdir()
    (site / package / "__init__.py").touch()
    words = {"package": package, "name": name, "fields": mistake.fields.replace("zoo_x", package)}
    (site / package / "plugin.py").write_text(mistake.plugin.format(**words))
    (site / package / "parts.py").write_text(mistake.parts)
    install(site, f"zoo-{name}", name, f"{package}.plugin{mistake.entry}", group=mistake.group)


def said_of(name: str, text: str) -> str:
    """Return the sentence that names a plugin."""
    found = re.search(rf"the plugin '{name}' \(zoo-{name} 1\.0\).*?pip uninstall zoo-{name}\.", text)
    assert found, f"nothing names the plugin {name}"
    return found[0]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, install: Callable[..., None]) -> Path:
    """A folder in which all of them are installed."""
    folder = tmp_path_factory.mktemp("mistaken")
    for name, mistake in {**AT_LISTING, **WHEN_RUN}.items():
        write(folder, install, name, mistake)
    return folder


@pytest.fixture(scope="module")
def benched(site: Path, world: Path, written: dict, zoo, tmp_path_factory: pytest.TempPathFactory):
    """A bench of one good row beside the rows of all plugins that can be listed, and what it printed."""
    folder = tmp_path_factory.mktemp("benched")
    spec = {**written, "algorithms": ["sft", *WHEN_RUN], "seeds": 1, "update_seconds": 15, "tasks": []}
    spec["evaluation"] = {**written["evaluation"], "best_of": []}
    (world / "mistaken.yaml").write_text(yaml.safe_dump(spec))
    done = zoo("bench", world / "mistaken.yaml", "--output", "out", cwd=folder, PYTHONPATH=str(site))
    return folder / "out", done


def test_there_are_more_than_forty_of_them() -> None:
    assert len(AT_LISTING) + len(WHEN_RUN) > 40


@pytest.mark.slow
def test_the_good_row_is_on_the_board_and_every_other_stands_there_as_failed(benched) -> None:
    output, done = benched
    assert done.returncode == 1, done.stdout + done.stderr
    rows = {row["row"]: row for row in json.loads((output / "leaderboard.json").read_text())["rows"]}
    assert rows["sft"]["seeds_ok"] == 1
    assert {name: rows[name]["seeds_ok"] for name in WHEN_RUN} == dict.fromkeys(WHEN_RUN, 0)
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", [*AT_LISTING, *WHEN_RUN])
def test_it_is_named_with_its_place_and_the_remedy(benched, name: str) -> None:
    _, done = benched
    sentence = said_of(name, " ".join((done.stdout + done.stderr).split()))
    assert re.search({**AT_LISTING, **WHEN_RUN}[name].said, sentence), sentence


def test_a_row_whose_plugin_cannot_be_loaded_is_refused_with_that_reason_if_it_stands_alone(
    world: Path, zoo, install, tmp_path: Path
) -> None:
    write(tmp_path, install, "odd", AT_LISTING["not-frozen"])
    done = zoo("plan", world / "spec.yaml", "--algorithms", "odd", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert "is not frozen" in said_of("odd", " ".join(done.stderr.split()))


def test_what_is_bad_and_harms_nobody_is_said_when_plugins_are_listed(zoo, install, tmp_path: Path) -> None:
    bare = GOOD.replace('    """Rows of an update."""\n', "")
    write(tmp_path, install, "bare", Mistake("", parts=bare, plugin="import torch\n" + LISTS))
    done = zoo("plugins", "--json", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    (plugin,) = (one for one in json.loads(done.stdout) if one["name"] == "bare")
    assert plugin["status"] == "ok"
    assert plugin["notes"][0] == "bare: settings without a docstring: batch_size"
    assert "imports torch" in plugin["notes"][1]
