"""A plugin's wheel, installed alone with what it declares, is listed and benches: nothing else of ours is about."""

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from zoo_core.testing.tiny import tiny_policy, tiny_tokenizer

ROOT = Path(__file__).parents[2]
HELLO = ROOT / "examples" / "hello-plugin"
PROJECTS = {
    "zoo-core": ROOT,
    "zoo-harness": ROOT / "harness",
    "zoo-leaderboard": ROOT / "leaderboard",
    "zoo-hello": HELLO,
}


def project(name: str) -> Path:
    return PROJECTS.get(name) or ROOT / "plugins" / name.removeprefix("zoo-")


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every installed library but our own: what `pip install` of a plugin would find there already."""
    site, folder = Path(torch.__file__).parents[1], tmp_path_factory.mktemp("libraries")
    for entry in site.iterdir():
        if not re.match(r"zoo[_-]|_editable|.*\.pth$|__pycache__", entry.name):
            (folder / entry.name).symlink_to(entry)
    return folder


@pytest.fixture(scope="module")
def wheel_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that builds the wheel of one of our distributions, once."""
    folder = tmp_path_factory.mktemp("wheels")

    def built(name: str) -> Path:
        target = folder / name
        if not target.exists():
            build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
            subprocess.run([*build, "--wheel-dir", str(target), str(project(name))], check=True, capture_output=True)
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
    [("grpo", "grpo", {"batch_size": 32}), ("rlaif", "rlaif", {}), ("hello", "hello", {})],
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


@pytest.mark.slow
def test_the_example_passes_the_suite_that_every_algorithm_must_pass(
    libraries: Path, wheel_of: Callable[[str], Path], tmp_path: Path
) -> None:
    installed("zoo-hello", tmp_path, wheel_of)
    path = os.pathsep.join([str(tmp_path / "site"), str(libraries)])
    suite = [sys.executable, "-S", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    done = subprocess.run(
        [*suite, str(HELLO / "tests")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
