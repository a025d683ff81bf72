"""A bench that takes seconds: a model of 2 layers and width 32, files as a user would write them, a judge in Python."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import logging
from warm import LONGEST, Warm

from zoo_core.testing.tiny import tiny_policy, tiny_tokenizer

logging.disable_progress_bar()

JUDGE = """
def share_of_a(samples):
    return [sample.response.count("a") / max(1, len(sample.response)) for sample in samples]

share_of_a.best = 1.0
share_of_a.parts = lambda samples: {"ended": [float(sample.ended) for sample in samples]}
"""
TASK = """
task: spell
dataset_path: json
dataset_kwargs: {data_files: {test: %s}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{question}}"
doc_to_target: label
doc_to_choice: choices
num_fewshot: 0
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
metadata: {version: 1.0}
"""
BROKEN = {
    "cannot_import": "import nothing_of_that_name",
    "exits": "raise SystemExit('bye')",
    "typo": "from zoo_core.hookspecs import hookimpl\n@hookimpl\ndef zoo_algoritms():\n    return []",
    "bad_argument": "from zoo_core.hookspecs import hookimpl\n@hookimpl\ndef zoo_load_model(reference):\n    "
    "return None",
    "impostor": (
        "from zoo_core.hookspecs import hookimpl\nfrom zoo_core.records import Algorithm\n@hookimpl\n"
        "def zoo_algorithms():\n    return [Algorithm(name='ppo', summary='', paper='', config='', train='', "
        "learns_from=())]"
    ),
}
"""Five broken third-party plugins; the last claims the name of one that is installed."""


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def words(number: int) -> str:
    letters = "bcdefghijklmnopqrstuvwxyz"
    return letters[number % 25] + letters[number // 25 % 25] + letters[number * 7 % 25]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that a user brings: base, demonstrations, pairs, prompts, judge, task, spec."""
    folder = tmp_path_factory.mktemp("world")
    tiny_policy().save_pretrained(folder / "base")
    tiny_tokenizer().save_pretrained(folder / "base")
    user = [[{"role": "user", "content": words(number)}] for number in range(150)]
    good = [[{"role": "assistant", "content": "a" * (1 + number % 4)}] for number in range(150)]
    bad = [[{"role": "assistant", "content": words(number + 5)}] for number in range(150)]
    write_rows(folder / "demos.jsonl", [{"prompt": p, "completion": g} for p, g in zip(user, good, strict=True)])
    write_rows(
        folder / "pairs.jsonl",
        [{"prompt": p, "chosen": g, "rejected": b} for p, g, b in zip(user, good, bad, strict=True)],
    )
    write_rows(folder / "prompts.jsonl", [{"prompt": p} for p in user])
    write_rows(
        folder / "spell.jsonl",
        [{"question": "<bos>b", "choices": ["a", "b"], "label": n % 2} for n in range(8)],
    )
    (folder / "spell.yaml").write_text(TASK % (folder / "spell.jsonl"))
    (folder / "judge.py").write_text(JUDGE)
    (folder / "spec.yaml").write_text(yaml.safe_dump(SPEC))
    return folder


SPEC: dict[str, Any] = {
    "base": "base",
    "demonstrations": "demos.jsonl",
    "preferences": "pairs.jsonl",
    "prompts": "prompts.jsonl",
    "reward": "preferences",
    "gold": "judge:share_of_a",
    "algorithms": ["sft", {"name": "dpo", "batch_size": 8}, {"name": "ppo", "batch_size": 6, "epochs": 1}],
    "budget": 1e9,
    "seeds": 2,
    "prompt_tokens": 16,
    "response_tokens": 6,
    "limits": {"demonstrations": 64, "preference_labels": 32},
    "tasks": ["spell.yaml"],
    "evaluation": {"temperatures": [0, 1], "dev_prompts": 8, "test_prompts": 16, "curve_prompts": 8, "best_of": [4]},
}


@pytest.fixture(scope="session")
def written() -> dict[str, Any]:
    """What the spec file says."""
    return SPEC


@pytest.fixture(scope="session")
def broken_plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed distributions, each broken in its own way."""
    site = tmp_path_factory.mktemp("site")
    for name, code in BROKEN.items():
        (site / f"broken_{name}.py").write_text(code)
        install_in(site, f"broken-{name}", name, f"broken_{name}")
    return site


def install_in(site: Path, distribution: str, name: str, module: str, group: str = "zoo") -> None:
    """Have a folder look as if a distribution with one entry point were installed in it."""
    info = site / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}\n")


@pytest.fixture(scope="session")
def install() -> Callable[..., None]:
    """Return `install_in`."""
    return install_in


Zoo = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of a file's tests: what another file did would be taken over, and nothing trained."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def environment(cache: Path) -> dict[str, str]:
    """The environment of `zoo` processes."""
    return {**os.environ, "ZOO_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "COLUMNS": "160"}


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """A process that has imported everything."""
    with Warm.started() as process:
        yield process


@pytest.fixture(scope="module")
def zoo(environment: dict[str, str], warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """Run the command as a user does; with variables of the environment in an interpreter of its own."""

    def run(*arguments: str | Path, cwd: Path, **extra: str) -> subprocess.CompletedProcess[str]:
        words = list(map(str, arguments))
        if not extra:
            return warm.run(words, cwd, environment, tmp_path_factory.mktemp("said"))
        return subprocess.run(
            [sys.executable, "-m", "zoo_harness.start", *words],
            cwd=cwd,
            env={**environment, **extra},
            capture_output=True,
            text=True,
            errors="replace",  # a test may ask for another encoding than ours
            timeout=LONGEST,
            check=False,
        )

    return run
