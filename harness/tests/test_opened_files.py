"""An algorithm that writes elsewhere, or reads what others left, is named with the file; its own files are its own."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from zoo_harness.jobs.opened_files import own_temporary_folder, shipped_weights

WATCHED = """
import os, sys
from pathlib import Path
from zoo_harness.jobs.opened_files import OpenedFiles

output, gold, home = (Path(word) for word in sys.argv[1:4])
own = output / "cells" / "mine-seed0"

def steps():
    {does}
    yield 1

files = OpenedFiles(own, [gold])
(output / "cells" / "theirs-seed0" / "before.txt").write_text("not while a step is made")
assert list(files.of(steps())) == [1]
(output / "cells" / "theirs-seed0" / "after.txt").write_text("nor here")
print(files.flags)
"""


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    output, gold, home = tmp_path / "out", tmp_path / "site" / "zoo_gold", tmp_path / "home"
    for folder in (output / "cells" / "mine-seed0", output / "cells" / "theirs-seed0", output / "records", gold, home):
        folder.mkdir(parents=True)
    (output / "records" / "theirs-seed0.json").write_text("{}")
    (gold / "words.txt").write_text("secret")
    return output, gold, home


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("(own / 'notes.txt').write_text('mine')", "[]"),
        ("os.mkdir(own / 'more'); os.rename(own / 'more', own / 'less')", "[]"),
        ("(home / '.cache').mkdir(); (home / '.cache' / 'kernel').write_text('x')", "[]"),
        (
            "Path(__file__ if '__file__' in globals() else sys.executable).exists(); open('/dev/null', 'w').close()",
            "[]",
        ),
        ("(output / 'records' / 'theirs-seed0.json').read_text()", "read what belongs to another row: records/theirs"),
        ("open(output / 'cells' / 'theirs-seed0' / 'x', 'w')", "wrote into another row's folder: cells/theirs-seed0/x"),
        ("os.remove(output / 'records' / 'theirs-seed0.json')", "wrote into another row's folder: records/theirs"),
        ("os.symlink(own, home / 'link')", "wrote outside of its folder: .*home/link"),
        ("(home / 'notes.txt').write_text('x')", "wrote outside of its folder: .*home/notes.txt"),
        ("os.rename(own, home / 'moved')", "wrote outside of its folder: .*home/moved"),
        ("os.system('/bin/true >' + str(home / 'x'))", "started a program, whose files are not seen: true"),
        ("__import__('subprocess').run(['/bin/true'])", "started a program, whose files are not seen: true"),
        ("os.posix_spawn('/bin/true', ['true'], {})", "started a program, whose files are not seen: true"),
        ("__import__('subprocess').run(['/bin/uname'], stdout=-3)", "[]"),
        ("(gold / 'words.txt').read_text()", "opened what holds gold, or prompts that are scored: words.txt"),
    ],
)
def test_what_is_opened_while_a_step_is_made_is_told_by_name(folders, does: str, said: str, tmp_path: Path) -> None:
    import re

    code = WATCHED.format(does=does)
    environment = {
        "PATH": "",
        "HOME": str(folders[2]),
        "TMPDIR": str(tmp_path / "nowhere"),
        "PYTHONPATH": ":".join(sys.path),
    }
    (tmp_path / "nowhere").mkdir()
    command = [sys.executable, "-c", code, *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(said if said != "[]" else r"^\[\]$", done.stdout.strip()), done.stdout


def test_a_training_has_a_temporary_folder_of_its_own_that_ends_with_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    seen = []
    for _ in range(2):
        with own_temporary_folder():
            seen.append(Path(tempfile.mkdtemp()))
            assert seen[-1].parent.parent == tmp_path
            assert os.environ["TMPDIR"] == str(seen[-1].parent)
            (seen[-1] / "state").write_text("of one seed")
    assert seen[0].parent != seen[1].parent
    assert list(tmp_path.iterdir()) == []
    assert (tempfile.gettempdir(), os.environ["TMPDIR"]) == (str(tmp_path), str(tmp_path))


def test_a_package_with_weights_in_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("zoo_heavy", "zoo_light"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    (tmp_path / "zoo_heavy" / "data").mkdir()
    (tmp_path / "zoo_heavy" / "data" / "model.safetensors").touch()
    assert shipped_weights("zoo_heavy") == ["its package ships weights: model.safetensors"]
    assert shipped_weights("zoo_light") == []
