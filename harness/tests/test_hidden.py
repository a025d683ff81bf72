"""What a training must not see is found by what its spec names, wherever it lies; what it needs is not hidden."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from zoo_harness.jobs.hidden import hidden_packages, hidden_paths

SPEC = {
    "gold": None, "reward": None, "judge": None, "prompts": None, "base": "tinytown:base", "demonstrations": None,
    "preferences": None,
}  # fmt: skip


def training(reward: str | None = None, **spec: str) -> Any:
    return SimpleNamespace(reward=reward, spec=SimpleNamespace(**{**SPEC, **spec}))


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module with gold, and a package with a reward."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "hidden_gold.py").write_text("def score(samples): ...")
    (tmp_path / "shown").mkdir()
    (tmp_path / "shown" / "__init__.py").write_text("def score(samples): ...")
    return tmp_path


def test_the_module_that_a_spec_names_as_gold_is_hidden(modules: Path) -> None:
    mine = training(gold="hidden_gold:score", reward="shown:score")
    assert "hidden_gold" in hidden_packages(mine)
    assert modules / "hidden_gold.py" in hidden_paths(mine)
    assert "shown" not in hidden_packages(mine)
    assert modules / "shown" not in hidden_paths(mine)


@pytest.mark.parametrize("needed", ["reward", "judge"])
def test_a_package_that_the_training_needs_as_well_is_not_hidden(modules: Path, needed: str) -> None:
    mine = training(gold="shown:score", **{needed: "shown:score"})
    assert "shown" not in hidden_packages(mine)
    assert modules / "shown" not in hidden_paths(mine)


def test_the_files_of_gold_and_of_the_prompts_are_hidden_unless_they_are_given_as_something_else(modules: Path) -> None:
    for name in ("scorer", "prompts.jsonl"):
        (modules / name).touch()
    gold, prompts = str(modules / "scorer"), str(modules / "prompts.jsonl")
    assert {Path(gold), Path(prompts)} <= set(hidden_paths(training(gold=gold, prompts=prompts)))
    shown = hidden_paths(training(reward=gold, gold=gold, prompts=prompts, demonstrations=prompts))
    assert not {Path(gold), Path(prompts)} & set(shown)


def test_plugins_of_gold_are_hidden_always() -> None:
    assert "zoo_tinytown_gold" in hidden_packages(training(gold="tinytown:gold"))
    assert any(path.name == "zoo_tinytown_gold" for path in hidden_paths(training()))
