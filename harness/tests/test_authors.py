"""From `zoo plugins new` to a row on the board: a plugin that works, a check that finds what is wrong, a badge."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from zoo_harness.scaffold import write_plugin

SINFUL = """
from dataclasses import dataclass
from zoo_core.hookspecs import hookimpl
from zoo_core.records import Algorithm

@dataclass(frozen=True)
class Config:
    batch_size: int = 8

@hookimpl
def zoo_algorithms():
    return [Algorithm(name="sinful", summary="Sins", paper="-", config="sinful:Config", train="sinful:train",
                      learns_from=("preferences",), starts_from="sft")]

def train(config, run):
    from torch.optim import AdamW
    from zoo_core.functional import masked_sum
    from zoo_core.rollout import response_logprobs

    optimizer = AdamW(run.policy.parameters(), lr=1e-3)  # never kept: a resumed run begins with other moments
    for update in run.updates():
        pairs = run.preferences.batch(update, config.batch_size)
        chosen, rejected = masked_sum(response_logprobs(run.policy, pairs), pairs.mask).chunk(2)
        loss = (rejected - chosen).exp().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield {"loss": loss.item()}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, zoo) -> Path:
    """A plugin as `zoo plugins new` writes it."""
    folder = tmp_path_factory.mktemp("made")
    done = zoo("plugins", "new", "first-try", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert f"zoo plugins check {Path('zoo-first-try')}" in done.stdout
    return folder / "zoo-first-try"


def board_of(zoo, world: Path, written: dict, made: Path, folder: Path) -> dict[str, dict]:
    spec = {**written, "algorithms": [{"name": "first-try", "batch_size": 8}], "seeds": 1, "tasks": []}
    spec["evaluation"] = {**written["evaluation"], "best_of": []}
    (world / "authors.yaml").write_text(yaml.safe_dump({**spec, "references": False}))
    done = zoo("bench", world / "authors.yaml", "--plugin", made, "--output", folder, cwd=folder.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((folder / "leaderboard.json").read_text())["rows"]
    return {row["row"]: row for row in rows}


def test_no_word_of_the_example_is_left(made: Path) -> None:
    text = "".join(path.read_text() for path in made.rglob("*") if path.is_file())
    assert "hello" not in text.lower()
    assert (made / "zoo_first_try" / "py.typed").exists()


def test_its_own_test_of_the_loss_passes(made: Path) -> None:
    test = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "pair", "tests"]
    done = subprocess.run(
        test, cwd=made, env={**os.environ, "PYTHONPATH": str(made)}, capture_output=True, text=True, check=False
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)  # all laws and three benches; a quiet machine takes about two minutes
def test_it_passes_the_check_and_the_board_says_so_until_its_code_changes(
    made: Path, zoo, world: Path, written: dict, tmp_path: Path
) -> None:
    assert "checked" not in board_of(zoo, world, written, made, tmp_path / "before")["first-try"]
    done = zoo("plugins", "check", made, "--set", "batch_size=8", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["held"] == found["tried"] > 12
    assert "holds    a run killed at every update resumes to the same bits" in done.stderr
    row = board_of(zoo, world, written, made, tmp_path / "checked")["first-try"]
    assert row["checked"] == {"held": found["held"], "tried": found["tried"]}
    assert f"checked {found['held']}/{found['tried']}" in (tmp_path / "checked" / "leaderboard.md").read_text()

    loss = made / "zoo_first_try" / "loss.py"
    loss.write_text(loss.read_text() + "\nMORE = 1\n")
    assert "checked" not in board_of(zoo, world, written, made, tmp_path / "changed")["first-try"]


@pytest.mark.parametrize(
    "law", ["a run killed at every update resumes to the same bits", "every setting is documented"]
)
def test_the_check_names_the_law_that_a_plugin_breaks(zoo, tmp_path: Path, cache: Path, law: str) -> None:
    (tmp_path / "sinful.py").write_text(SINFUL)
    done = zoo("plugins", "check", "sinful.py", "--only", law, cwd=tmp_path)
    assert done.returncode == 1
    assert f"FAILS    {law}" in done.stdout
    assert "0 of 1 laws hold" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert not (cache / "checks" / "sinful.json").exists()  # a part of the suite is no check


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("check", "nothing"), "no installed plugin provides the algorithm 'nothing'"),
        (("check", "nothing.py"), "there is no such file or folder"),
        (("check", "dpo", "--set", "batch=8"), "dpo has no setting 'batch'"),
        (("check", "bad.py"), "the plugin 'bad' .*bad.py.* is not loaded: ZeroDivisionError.* leave it out"),
        (("check", "dpo", "--only", "flies"), "no law holds the words 'flies'"),
        (("check", "none.py"), "it provides no algorithm"),
        (("new", "dpo"), "there is an algorithm 'dpo'"),
        (("new", "Mine"), "'Mine' cannot be the name of an algorithm"),
        (("new", "123"), "'123' cannot be the name of an algorithm: write a letter"),
        (("new", "a_b"), "'a_b' cannot be the name of an algorithm"),
        (("new", "../x"), "cannot be the name of an algorithm"),
        (("new", "core"), "a package zoo_core, already"),
        (("new", "mine", "--directory", "full"), "full: there is something already"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(zoo, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    (tmp_path / "bad.py").write_text("from zoo_core.hookspecs import hookimpl\n1 / 0\n")
    (tmp_path / "none.py").write_text(
        "from zoo_core.hookspecs import hookimpl\n@hookimpl\ndef zoo_reward(ref):\n    return None\n"
    )
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").touch()
    done = zoo("plugins", *words, cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert re.search(said, line), line


def test_a_name_with_hyphens_becomes_a_package_and_a_class(tmp_path: Path) -> None:
    folder = write_plugin("two-words", tmp_path / "here")
    assert "class TwoWordsConfig" in (folder / "zoo_two_words" / "config.py").read_text()
    assert 'two-words = "zoo_two_words.plugin"' in (folder / "pyproject.toml").read_text()


@pytest.mark.parametrize("name", ["hello-world", "othello"])
def test_a_name_that_holds_that_of_the_example_is_put_in_once(tmp_path: Path, name: str) -> None:
    folder, package = write_plugin(name, tmp_path / "here"), f"zoo_{name.replace('-', '_')}"
    assert {path.name for path in folder.iterdir() if path.name.startswith("zoo_")} == {package}
    assert f'{name} = "{package}.plugin"' in (folder / "pyproject.toml").read_text()
    assert f"from {package}.loss import" in (folder / package / "train.py").read_text()
