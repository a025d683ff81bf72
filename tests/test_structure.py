"""Imports point one way, the front door stays small, and no file grows beyond what a reader holds in mind."""

import ast
import gc
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "zoo_core": ROOT / "zoo_core",
    "zoo_harness": ROOT / "harness/zoo_harness",
    "zoo_leaderboard": ROOT / "leaderboard/zoo_leaderboard",
}
PLUGINS = {path.name: path for path in sorted(ROOT.glob("plugins/*/zoo_*"))}
BEHIND_THE_DOOR = {
    "zoo_core.accounting.attention": "tinytown's bases are trained on packed rows",
    "zoo_core.compute.precision": "the reward model keeps its start as references are kept",
    "zoo_core.compute.processes": "tinytown's bases are built on what is there; vllm samples in one process",
    "zoo_core.compute.sampler": "tinytown's gates sample as a bench does",
    "zoo_core.compute.sharding": "ppo's value head is copied from full weights",
    "zoo_core.datasets.chat": "tinytown's gates sample as a bench does",
    "zoo_core.datasets.encoding": "rrhf's reward reads texts as its policy does",
    "zoo_core.datasets.feeds": "sft makes a feed of the answers that it imitates",
    "zoo_core.models.cached_logprobs": "dpo asks its reference about each answer once",
    "zoo_core.models.causal_judge": "tinytown brings a judge",
    "zoo_core.models.copies": "critics and reward models begin as copies of the policy",
    "zoo_core.models.directories": "rrhf's reward names the weights that it has loaded",
    "zoo_core.models.loading": "rrhf's reward is a policy that is read back",
    "zoo_core.models.log_ratio": "the reward model can be a ratio of two policies",
    "zoo_core.models.lora": "models of ppo and the reward model share one frozen base; vllm gets merged weights",
    "zoo_core.models.scorer": "reward models are trained by the scores of rows",
    "zoo_core.models.tokenizers": "rrhf's reward is a policy that is read back",
    "zoo_core.models.teacher": "gkd learns from the whole distributions of a model that users name",
    "zoo_core.registry.plugins": "tinytown's gates train by the algorithms that are installed",
    "zoo_core.registry.references": "rrhf's reward and tinytown's judge are made of models that users name",
    "zoo_core.session.seeds": "rlaif's labels are drawn by a seed of their own",
    "zoo_core.session.session": "tinytown's gates train as a bench does",
    "zoo_core.session.steps": "tinytown's gates train as a bench does",
    "zoo_core.storage.atomic": "rlaif keeps a server's answers, tinytown the card of a world",
    "zoo_core.storage.yaml_files": "rlaif's constitutions are YAML that people write",
}
"""What plugins import from behind the front door, and why."""
LONG: dict[str, str] = {}
"""Files of more than 300 lines, and why they are not two."""


@cache
def modules() -> dict[str, Path]:
    """Return every module of core, harness and leaderboard by its dotted name."""
    return {
        ".".join([name, *file.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__"): file
        for name, folder in PACKAGES.items()
        for file in sorted(folder.rglob("*.py"))
    }


def imports_of(source: str) -> set[str]:
    """Return every name that is imported anywhere in a module: inside functions and for types only as well."""
    names = set[str]()
    gc.disable()  # CPython 3.11 fails to parse where collected garbage parses, too (its issue 106905)
    try:
        tree = ast.parse(source)
    finally:
        gc.enable()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that a reader sees where a name comes from"
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def arrows(sources: dict[str, str]) -> dict[str, set[str]]:
    """Return which of these modules each of them imports; a package's docstring is not imported by its modules."""
    return {name: (imports_of(source) & sources.keys()) - {name} for name, source in sources.items()}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the modules that can be reached from themselves, as lists that reach one another."""

    def reached(start: str) -> set[str]:
        seen, waiting = set[str](), [start]
        while waiting:
            for name in graph[waiting.pop()] - seen:
                seen.add(name)
                waiting.append(name)
        return seen

    everything = {name: reached(name) for name in graph}
    inside = {name for name in graph if name in everything[name]}
    found = {
        tuple(sorted(other for other in inside if name in everything[other] and other in everything[name]))
        for name in inside
    }
    return sorted(map(list, found))


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles(arrows({name: file.read_text() for name, file in modules().items()})) == []


@pytest.mark.parametrize(
    "closing",
    [
        "import c",
        "from c import x",
        "def f():\n    from c import x",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import c",
    ],
)
def test_a_circle_is_seen_wherever_the_import_that_closes_it_is_written(closing: str) -> None:
    assert circles(arrows({"a": closing, "b": "import a", "c": "from b import y", "d": "import a"})) == [
        ["a", "b", "c"]
    ]


def test_the_core_imports_neither_harness_nor_leaderboard_nor_plugins() -> None:
    owners = {
        name.partition(".")[0] for file in PACKAGES["zoo_core"].rglob("*.py") for name in imports_of(file.read_text())
    }
    assert {name for name in owners if name.startswith("zoo_")} == {"zoo_core"}


def test_the_front_door_of_the_core_has_at_most_twelve_modules() -> None:
    assert len([file for file in PACKAGES["zoo_core"].glob("*.py") if file.name != "__init__.py"]) <= 12


def test_one_module_of_the_core_asks_the_plugins() -> None:
    asking = {
        name
        for name, file in modules().items()
        if name.startswith("zoo_core") and "zoo_core.registry.plugins.plugins" in imports_of(file.read_text())
    }
    # The suite looks up the record of the algorithm that it tests.
    assert asking == {"zoo_core.registry.references", "zoo_core.testing.listed"}


def test_plugins_import_the_front_door_or_what_is_argued_for() -> None:
    door = {f"zoo_core.{file.stem}" for file in PACKAGES["zoo_core"].glob("*.py")}
    names = {
        name
        for folder in PLUGINS.values()
        for file in folder.rglob("*.py")
        for name in imports_of(file.read_text())
        if name in modules() and name.startswith("zoo_core.")
    }
    assert names - door == set(BEHIND_THE_DOOR)


def test_files_have_at_most_300_lines_or_a_reason() -> None:
    files = [*modules().values(), *(file for folder in PLUGINS.values() for file in folder.rglob("*.py"))]
    long = {str(file.relative_to(ROOT)) for file in files if len(file.read_text().splitlines()) > 300}
    assert long == set(LONG)
