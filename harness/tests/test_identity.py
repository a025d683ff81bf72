"""What is hashed into the identity of results: a changed file must not pass for the one they were made with."""

import sys
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path

import pytest
from zoo_harness.planning import identity as code
from zoo_harness.planning.identity import package_hash
from zoo_harness.planning.pipeline import Pipeline
from zoo_harness.planning.plan import Plan, files_named
from zoo_harness.spec.read import read


def test_a_file_that_a_setting_names_counts_by_its_content(tmp_path):
    file = tmp_path / "constitution.yaml"
    settings = {"constitution": str(file), "batch_size": 8, "critic": "policy"}
    assert files_named(settings) == {}
    file.write_text("principles: []")
    first = files_named(settings)
    assert list(first) == ["constitution"]
    file.write_text("principles: [kind]")
    assert files_named(settings) != first


def test_a_model_that_a_setting_names_counts_by_its_files_and_another_folder_does_not_count(tmp_path):
    settings = {"teacher": str(tmp_path)}
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    assert files_named(settings) == {}
    (tmp_path / "config.json").write_text("{}")
    first = files_named(settings)
    assert list(first) == ["teacher"]
    (tmp_path / "model.safetensors").write_bytes(b"others")
    second = files_named(settings)
    (tmp_path / "model.safetensors").rename(tmp_path / "renamed.safetensors")
    assert len({str(one) for one in (first, second, files_named(settings))}) == 3


def test_the_card_of_a_model_is_no_part_of_it(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    before = files_named({"teacher": str(tmp_path)})
    (tmp_path / "README.md").write_text("seconds: 21.1")  # the same training again takes other seconds
    assert files_named({"teacher": str(tmp_path)}) == before


def test_the_yaml_files_of_a_package_count_as_its_code_does(tmp_path, monkeypatch):
    package = tmp_path / "zoo_with_yaml"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    hashes = [package_hash("zoo_with_yaml")]
    for file, text in [("rules.yaml", "a"), ("rules.yaml", "b"), ("code.py", ""), ("notes.txt", "c")]:
        (package / file).write_text(text)
        hashes.append(package_hash("zoo_with_yaml"))
    assert len(set(hashes)) == 4
    assert hashes[4] == hashes[3]
    assert "zoo_with_yaml" not in sys.modules


# A change of a module, and the jobs that are done again for it


ROWS = ["sft", "dpo", "grpo", "ppo"]
ANYTHING = {"sha256": ["x"]}
PROBED = {
    "base": {"files": "x"},
    "base_path": "base",
    "costs": defaultdict(lambda: {"processes": 1}),
    "hashes": {},
    "environment": {},
    "data": dict.fromkeys(["demonstrations", "preferences", "prompts", "dev_prompts", "test_prompts"], ANYTHING),
}
CELLS = {*ROWS, "sft-chosen"}
STAGES = {"stage sft", "stage reward-model", "stage calibration"}


def jobs(world: Path, **changes: object) -> dict[str, str]:
    """Return the identities of the jobs of a bench, and of the bench."""
    code._code_of_job.cache_clear()
    spec = read(world / "spec.yaml", None, {"algorithms": ROWS, "seeds": 1, "gold": None, "tasks": [], **changes})
    plan = Plan(Pipeline.of(spec), PROBED, 1e9, Path("out"), Path("cache"))
    return {"bench": plan.identity, **{job.title: job.identity for job in plan.jobs()}}


@pytest.fixture
def lengthened(monkeypatch):
    """Return a function that adds lines to a module, as far as hashing sees."""

    def lengthen(module: str, lines: bytes = b"why = 0") -> None:
        file, read_bytes = Path(find_spec(module).origin), Path.read_bytes
        monkeypatch.setattr(Path, "read_bytes", lambda path: read_bytes(path) + (b"\n" + lines) * (path == file))

    yield lengthen
    code._code_of_job.cache_clear()


@pytest.mark.parametrize(
    ("module", "again"),
    [
        ("zoo_grpo.train", {"grpo"}),
        ("zoo_dpo.loss", {"dpo"}),
        ("zoo_ppo.loss", {"ppo"}),
        ("zoo_raft.train", set()),  # no row of this bench
        ("zoo_harness.show", set()),
        ("zoo_harness.live", set()),
        ("zoo_harness.cli", set()),
        ("zoo_leaderboard.render", set()),
        ("zoo_core.testing.suite", set()),
        ("zoo_reward_model.loss", {"stage reward-model", "stage calibration", "ppo", "grpo"}),
        ("zoo_sft.train", STAGES | CELLS),  # the stage that all else stands on
        ("zoo_core.compute.sampler", STAGES | CELLS),
        ("zoo_core.accounting.meter", STAGES | CELLS),
        ("zoo_core.registry.builtin", STAGES | CELLS),
        ("zoo_harness.jobs.train", STAGES | CELLS),
        ("zoo_harness.jobs.worker", STAGES | CELLS),
    ],
)
def test_what_is_done_again_is_what_imports_the_changed_module(world, lengthened, module, again):
    before = jobs(world)
    lengthened(module)
    after = jobs(world)
    changed = {title for title, identity in before.items() if after[title] != identity}
    assert {title for title in changed if not title.startswith("score") and title != "bench"} == again
    assert ("bench" in changed) == bool(again)
    # The score of a cell is done again with the cell, and of others where it stands on a stage or on the code itself.
    assert {title for title in changed if title.removeprefix("score ") in CELLS & again} >= {
        f"score {row}" for row in CELLS & again
    }
    assert again or not changed


@pytest.mark.parametrize("lines", [b"# why", b'"""Why."""', b"", b'def why():\n    """Why."""\n    why = 0'])
def test_comments_docstrings_and_empty_lines_have_nothing_done_again(world, lengthened, lines):
    before = jobs(world)
    lengthened("zoo_harness.jobs.train", lines)
    assert (jobs(world) == before) == (b"def" not in lines)


def test_a_score_depends_on_the_code_that_scores_and_on_no_algorithm(world, lengthened):
    before = jobs(world)
    lengthened("zoo_harness.jobs.lmeval")
    after = jobs(world)
    assert {title for title in before if after[title] != before[title]} == {
        "bench",
        *(title for title in before if title.startswith("score")),
    }


def test_imports_are_followed_wherever_they_are_written_and_however(tmp_path, monkeypatch):
    package = tmp_path / "zoo_core_made"
    package.mkdir()
    sources = {
        "__init__": "",
        "a": "from . import b\ndef f():\n    from zoo_core_made.c import x\n",
        "b": "import zoo_core_made.d",
        "c": "from .e import y",
        "d": "",
        "e": "",
        "unused": "",
    }
    for name, source in sources.items():
        (package / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(code, "OWN", ("zoo_core_made",))
    reached = {name for name in code._reached(["zoo_core_made.a"]) if name.startswith("zoo_core_made")}
    assert reached == {"zoo_core_made", *(f"zoo_core_made.{name}" for name in "abcde")}


def test_another_optimizer_is_another_board_whose_rows_and_stages_are_trained_anew(world):
    before, after = jobs(world), jobs(world, optimizer="adamw-8bit")
    changed = {title for title, identity in before.items() if after[title] != identity}
    assert changed >= {"bench", *STAGES, *CELLS}
    assert jobs(world, optimizer="adamw") == before
