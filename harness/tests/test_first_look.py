"""All that is wrong with an input is told at once, and before anything heavy is imported."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from zoo_harness.faults import Faults

from zoo_core.errors import DataError, SpecError, ZooError

FAULTY = {
    "base": "nobase",
    "demonstrations": "absent.jsonl",
    "preferences": "bad.jsonl",
    "prompts": "prompts.jsonl",
    "reward": "rewards:shared",
    "gold": "./nogold",
    "algorithms": ["sft", {"name": "dpo", "betta": 1}, "ppoo"],
    "tasks": ["tasks/none.yaml"],
}


def faulty(folder: Path, **changes: Any) -> Path:
    (folder / "nobase").mkdir()
    (folder / "bad.jsonl").write_text('{"prompt": "a", "chosen": "b"}\n')
    (folder / "prompts.jsonl").write_text('{"promt": "a"}\n')
    (folder / "rewards.py").write_text("def share(samples):\n    return [0.0 for _ in samples]\n")
    (folder / "spec.yaml").write_text(yaml.safe_dump({**FAULTY, **changes}))
    return folder / "spec.yaml"


def test_versions_are_told_and_nothing_heavy_is_imported(zoo, tmp_path: Path) -> None:
    done = zoo("--version", cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0
    assert done.stdout.startswith(f"zoo-harness {version('zoo-harness')}, zoo-core {version('zoo-core')}\n")
    assert f"torch {version('torch')}" in done.stdout
    assert not [line for line in done.stderr.splitlines() if line.split("|")[-1].strip() in ("torch", "transformers")]


@pytest.mark.parametrize("command", ["plan", "bench"])
def test_eight_mistakes_are_told_at_once_and_nothing_heavy_is_imported(command: str, tmp_path: Path) -> None:
    spec = faulty(tmp_path)
    code = (
        f"import sys; sys.argv = ['zoo', '{command}', {str(spec)!r}]\n"
        "from zoo_harness.cli import main\n"
        "try: main()\nexcept SystemExit as end: assert end.code == 2, end.code\n"
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules), 'heavy'"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, *lines = done.stderr.splitlines()
    assert first == "error: 9 things are wrong with the input:"
    for words in (
        "dpo has no setting 'betta'. Did you mean 'beta'?",
        "the algorithm 'ppoo'. Did you mean 'ppo'?",
        "nobase: the folder is empty",
        f"reward: {tmp_path / 'rewards.py'}: there is no function 'shared'. Did you mean 'share'?",
        "nogold: there is no such directory",
        "there is no task file",
        "absent.jsonl: there is no such file",
        "bad.jsonl:1: the row has no 'rejected'",
        "prompts.jsonl:1:",
    ):
        assert sum(words in line for line in lines) == 1, (words, lines)


def test_a_syntax_error_beside_the_spec_names_its_line(tmp_path: Path, zoo: Any) -> None:
    spec = faulty(tmp_path)
    (tmp_path / "rewards.py").write_text("\ndef share(samples)\n    return []\n")
    done = zoo("plan", spec, cwd=tmp_path)
    assert f"reward: {tmp_path / 'rewards.py'}:2: the file is no Python: expected ':'" in done.stderr


def test_one_mistake_is_told_as_it_is_and_one_file_that_is_read_twice_once() -> None:
    faults = Faults()
    for line in (3, 7):
        with faults.noted():
            raise DataError(f"rows.jsonl:{line}: the prompt is empty")
    with pytest.raises(DataError, match=r"^rows\.jsonl:3: the prompt is empty$"):
        faults.tell()


def test_mistakes_that_were_collected_are_collected_again_one_by_one() -> None:
    inner, outer = Faults(), Faults()
    for text in ("a", "b"):
        with inner.noted():
            raise SpecError(text)
    with outer.noted():
        inner.tell()
    with outer.noted("gold"):
        raise DataError("c")
    with pytest.raises(ZooError) as caught:
        outer.tell()
    assert str(caught.value).splitlines() == ["3 things are wrong with the input:", "(1) a", "(2) b", "(3) gold: c"]


def test_nothing_wrong_is_nothing_told() -> None:
    faults = Faults()
    with faults.noted():
        pass
    faults.tell()
