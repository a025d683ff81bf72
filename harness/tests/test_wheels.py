"""What wheels install is listed and benches: a plugin alone with what it declares, and `rlhf-zoo` with its default."""

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from email.parser import Parser
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from packaging.requirements import Requirement
from zoo_harness.scaffold import write_plugin

from zoo_core.registry.plugins import plugins
from zoo_core.testing.tiny import tiny_policy, tiny_tokenizer

ROOT = Path(__file__).parents[2]
PROJECTS = {
    "zoo-core": ROOT,
    "zoo-harness": ROOT / "harness",
    "zoo-leaderboard": ROOT / "leaderboard",
    "rlhf-zoo": ROOT / "rlhf-zoo",
}


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that somebody made elsewhere."""
    return write_plugin("elsewhere", tmp_path_factory.mktemp("outside") / "zoo-elsewhere")


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every installed library but our own: what `pip install` of a plugin would find there already."""
    site, folder = Path(torch.__file__).parents[1], tmp_path_factory.mktemp("libraries")
    for entry in site.iterdir():
        if not re.match(r"zoo[_-]|_editable|.*\.pth$|__pycache__", entry.name):
            (folder / entry.name).symlink_to(entry)
    return folder


@pytest.fixture(scope="module")
def wheel_of(tmp_path_factory: pytest.TempPathFactory, outside: Path) -> Callable[[str], Path]:
    """Return a function that builds the wheel of one of our distributions, or of that project, once."""
    folder = tmp_path_factory.mktemp("wheels")
    projects = {**PROJECTS, "zoo-elsewhere": outside}

    def built(name: str) -> Path:
        target = folder / name
        if not target.exists():
            build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(target)]
            where = projects.get(name) or ROOT / "plugins" / name.removeprefix("zoo-")
            subprocess.run(build, cwd=where, check=True, capture_output=True)  # as `make dist` does
        (wheel,) = target.glob("*.whl")
        return wheel

    return built


def installed(name: str, folder: Path, wheel_of: Callable[[str], Path]) -> set[str]:
    """Unpack the wheels of a distribution and of all of ours that it declares, and no others; return their names."""
    done: set[str] = set()
    waiting = [name, "zoo-harness"]
    while waiting:
        wanted = waiting.pop()
        if wanted in done:
            continue
        done.add(wanted)
        with zipfile.ZipFile(wheel_of(wanted)) as archive:
            archive.extractall(folder / "site")
            (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            declared = Parser().parsestr(archive.read(metadata).decode()).get_all("Requires-Dist") or []
        waiting += [found[0] for one in declared if (found := re.match(r"zoo-[a-z-]+", one))]
    return done


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "row", "settings"),
    [("grpo", "grpo", {"batch_size": 32}), ("rlaif", "rlaif", {}), ("elsewhere", "elsewhere", {})],
)
def test_a_plugin_alone_with_what_it_declares_is_listed_and_benches(
    libraries: Path,
    wheel_of: Callable[[str], Path],
    world: Path,
    environment: dict[str, str],
    tmp_path: Path,
    name: str,
    row: str,
    settings: dict[str, Any],
) -> None:
    ours = installed(f"zoo-{name}", tmp_path, wheel_of)
    path = os.pathsep.join([str(tmp_path / "site"), str(libraries)])
    own = {**environment, "PYTHONPATH": path, "ZOO_CACHE": str(tmp_path / "cache")}

    def zoo(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-S", "-m", "zoo_harness.start", *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, env=own, capture_output=True, text=True, timeout=280, check=False)

    listed = json.loads(zoo("plugins", "list", "--json").stdout)
    assert {plugin["distribution"] for plugin in listed} <= ours
    assert row in {provided for plugin in listed for provided in plugin["provides"]}
    assert {plugin["status"] for plugin in listed} == {"ok"}
    spec = yaml.safe_load((world / "spec.yaml").read_text())
    spec |= {"algorithms": [{"name": row, **settings}], "seeds": 1, "tasks": [], "budget": 1e10}
    if "zoo-reward-model" not in ours:
        spec["reward"] = None  # nobody trains one here, and nothing learns from it
    for key in ("demonstrations", "preferences", "prompts"):
        spec[key] = str(world / spec[key])
    tiny_policy(max_position_embeddings=512).save_pretrained(tmp_path / "base")  # a judge reads long questions
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    (tmp_path / "judge.py").write_text((world / "judge.py").read_text())
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    done = zoo("bench", "spec.yaml", "--output", "out")
    assert done.returncode == 0, done.stdout + done.stderr
    board = json.loads((tmp_path / "out" / "leaderboard.json").read_text())
    assert row in {one["row"] for one in board["rows"]}


def requirements(group: str | None = None) -> list[Requirement]:
    """What `rlhf-zoo` needs, by default or for an extra."""
    written = tomllib.loads((ROOT / "rlhf-zoo" / "pyproject.toml").read_text())["project"]
    return [Requirement(one) for one in (written["optional-dependencies"][group] if group else written["dependencies"])]


def test_rlhf_zoo_brings_what_runs_by_default_and_has_an_extra_for_every_plugin() -> None:
    default = {one.name for one in requirements()}
    folders = {path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml")}
    owners = {name: plugins().owner("zoo_algorithms", name) for name in plugins().algorithms}
    rows = {owners[name].distribution for name, one in plugins().algorithms.items() if one.competes and one.by_default}
    stands_on = {"zoo-core", "zoo-harness", "zoo-leaderboard", "zoo-reward-model"}
    assert rows | stands_on | {"zoo-tinytown", "zoo-tinytown-gold", "zoo-rloo"} == default  # RLOO: the world's gates
    for folder in folders:
        (one,) = requirements(folder)
        assert one.name == f"zoo-{folder}"
    (every,) = requirements("all")
    wanted = folders - {"vllm"}  # gigabytes, which nobody is to get without asking
    assert default | {f"zoo-{extra}" for extra in every.extras} == {f"zoo-{one}" for one in wanted} | {
        "zoo-core",
        "zoo-harness",
        "zoo-leaderboard",
    }
    for one in chain(requirements(), *map(requirements, folders)):
        assert str(one.specifier) == "<0.2,>=0.1"  # as in the other distributions
        assert one.specifier.contains(version(one.name))


@pytest.mark.slow
def test_rlhf_zoo_installs_from_its_wheels_into_a_clean_environment_and_benches_in_an_empty_folder(
    libraries: Path, wheel_of: Callable[[str], Path], environment: dict[str, str], tmp_path: Path
) -> None:
    names = ["rlhf-zoo", *(one.name for one in requirements())]
    links = [word for name in names for word in ("--find-links", str(wheel_of(name).parent))]
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "clean"], check=True)
    (site,) = tmp_path.glob("clean/lib/*/site-packages")
    (site / "libraries.pth").write_text(f"{libraries}\n")  # other people's libraries, as if they were installed
    python = tmp_path / "clean" / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--no-index", *links, "rlhf-zoo"]
    done = subprocess.run(install, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

    (tmp_path / "empty").mkdir()
    own = {**environment, "ZOO_CACHE": str(tmp_path / "cache")}

    def zoo(*arguments: str) -> str:
        command = [str(python.with_name("zoo")), *arguments]
        done = subprocess.run(command, cwd=tmp_path / "empty", env=own, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    listed = json.loads(zoo("plugins", "list", "--json"))
    assert {one["distribution"] for one in listed} | {"rlhf-zoo", "zoo-harness", "zoo-leaderboard"} == set(names)
    assert {one["status"] for one in listed} == {"ok"}
    assert "zoo_mine/train.py" in zoo("plugins", "new", "mine")  # of a copy that the wheel carries
    small = ["--algorithms", "sft", "--seeds", "1", "--budget", "2e10", "--tasks", "none"]
    sizes = ["evaluation.dev_prompts=8", "evaluation.test_prompts=16", "evaluation.best_of=[]"]
    zoo("bench", "--preset", "smoke", *small, *(word for size in sizes for word in ("--set", size)))
    board = json.loads((tmp_path / "empty" / "zoo-runs" / "smoke" / "leaderboard.json").read_text())
    assert {one["row"]: one["status"] for one in board["rows"]}["sft"] == "ok"


@pytest.mark.slow
def test_a_wheel_that_was_built_elsewhere_passes_the_tests_that_came_with_its_project(
    libraries: Path, wheel_of: Callable[[str], Path], outside: Path, tmp_path: Path
) -> None:
    installed("zoo-elsewhere", tmp_path, wheel_of)
    path = os.pathsep.join([str(tmp_path / "site"), str(libraries)])
    suite = [sys.executable, "-S", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    done = subprocess.run(
        [*suite, str(outside / "tests")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
