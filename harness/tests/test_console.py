"""What the command prints is what a user wrote, on every terminal."""

import pytest
from zoo_harness.console import console


def test_nothing_is_turned_into_an_emoji_or_markup(capsys):
    strange = "demos.jsonl:100: [red]x[/red] :smile: https://a.b [/nothing]"
    console().print(strange, soft_wrap=True)
    assert capsys.readouterr().out == f"{strange}\n"


@pytest.mark.parametrize("line", [100, 1234])
def test_a_message_names_file_and_line_as_they_are(world, zoo, tmp_path, line):
    rows = (world / "demos.jsonl").read_text().splitlines() * 9
    rows[line - 1] = '{"prompt": "a", "completion": null}'
    (tmp_path / "demos.jsonl").write_text("\n".join(rows))
    done = zoo("plan", world / "spec.yaml", "--demonstrations", str(tmp_path / "demos.jsonl"), cwd=tmp_path)
    assert done.returncode == 2
    assert f"demos.jsonl:{line}: 'completion' is null" in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_terminal_that_is_not_utf_8_shows_what_it_can(world, zoo, tmp_path, encoding):
    listed = zoo("plugins", "list", cwd=tmp_path, PYTHONIOENCODING=encoding)
    assert (listed.returncode, listed.stderr) == (0, "")
    named = ("--demonstrations", "./Größe 文.jsonl")
    wrong = zoo("plan", world / "spec.yaml", *named, cwd=tmp_path, PYTHONIOENCODING=encoding)
    assert wrong.returncode == 2
    assert "there is no such file" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_a_setting_that_is_no_yaml_is_named(world, zoo, tmp_path):
    done = zoo("plan", world / "spec.yaml", "--set", "sft.batch_size=[", cwd=tmp_path)
    assert done.returncode == 2
    assert "--set sft.batch_size=[: this is not YAML" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_setting_that_is_given_twice_is_named(world, zoo, tmp_path):
    done = zoo("plan", world / "spec.yaml", "--set", "seeds=1", "--set", "seeds=2", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "error: --set seeds: is given twice; keep one.\n")
