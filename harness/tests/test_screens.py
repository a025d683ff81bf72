"""At any width: no line is wider than the terminal, no cell ends in dots, a figure is whole or its column is named."""

import io
import shutil
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console
from zoo_harness.console import ENDLESS, console
from zoo_harness.show import INSTEAD, PLAN, PREDICTION, plan_table, prediction_table, scores_table

NAMES = ["sft", "sft-chosen", "dpo beta=0.123456789 learning_rate=1.25e-05", "ein-sehr-langer-name-ohne-leerzeichen"]
KEPT = Path(__file__).parents[2] / "leaderboard/published/quick"
WIDTHS = [60, 80, 100, 140, ENDLESS]


def many(count, seconds=98765.4):
    """Rows whose figures are as long as a large base makes them."""
    purposes = ("weights", "gradients", "states", "undo", "activations", "cache", "fsdp2_device", "ddp_device")
    figures = {"algorithm": "sft", "stage_share": 0.25, "flops": 1e20, "flops_per_update": 1.44e17, "updates": 123456}
    held = {"memory_bytes": 2**41, "disk_bytes": 2**40, "models_resident": 4.0, "seconds": seconds}
    memory = dict.fromkeys(purposes, 1.94e12)
    return [{"row": NAMES[place % len(NAMES)], **figures, **held, "memory": memory} for place in range(count)]


def planned(rows, room, seeds=3, workers=2):
    base = {"ref": "org/model", "parameters": 70_553_706_496}
    found = {"budget": 1e20, "seeds": seeds, "base": base, "rows": rows}
    found |= {"training": {"seconds": 1e6, "flops": 1e21}, "scoring": {"seconds": 98765.4, "flops": 1.23e20}}
    return plan_table(found, workers, room)


def predicted(rows, room):
    target = {"ref": "org/model", "parameters": 70_553_706_496}
    machine = {"devices": 1, "flops_per_second": None, "bytes_per_second": None, "price_per_hour": None}
    found = {"budget": 1e20, "seeds": 1, "target": target, "machine": machine, "measured_on": {"ref": "small"}}
    return prediction_table(found | {"rows": rows, "training_hours": None, "cost": None}, room)


def captured(table, width):
    screen = Console(width=width, file=io.StringIO(), color_system=None)
    screen.print(table)
    return screen.file.getvalue()


def obeys(text, width):
    """Check the law of every screen."""
    assert max(map(cell_len, text.splitlines())) <= width
    assert "…" not in text
    assert "..." not in text


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("count", [1, 3, 40])
@pytest.mark.parametrize(("drawn", "columns"), [(planned, PLAN), (predicted, PREDICTION)])
def test_figures_are_whole_at_every_width_and_a_column_that_is_not_there_is_named(width, count, drawn, columns):
    rows = many(count)
    text = captured(drawn(rows, width), width)
    obeys(text, width)
    said = " ".join(text.split())
    _, _, missing = said.partition("No room for ")
    left_out = [title for title in missing.removesuffix(f": {INSTEAD}.").split(", ") if title]
    assert bool(left_out) == (INSTEAD in said)
    for column in columns:
        shown = not column.left and column.title not in left_out
        assert said.split().count(column.cell(rows[0])) >= count * shown
        assert (column.title in left_out) or column.title.split()[0] in said


def test_a_terminal_of_80_shows_what_a_plan_is_for():
    text = captured(planned(many(40), 80), 80)
    assert all(title in text for title in ("FLOPs/update", "updates", "minutes", "memory MiB"))
    text = captured(predicted(many(40), 80), 80)
    assert all(title in text for title in ("updates", "hours", "training GB", "FSDP2 GB/device", "DDP GB/device"))


def test_few_rows_of_a_prediction_are_turned_and_lose_nothing():
    text = captured(predicted(many(2), 80), 80)
    assert "No room" not in text
    assert all(any(line.startswith(column.title) for line in text.splitlines()) for column in PREDICTION)


@pytest.mark.parametrize("width", [20, 39])
def test_even_a_terminal_that_is_too_narrow_folds_figures_and_cuts_none(width):
    text = captured(planned(many(1), width), width)
    obeys(text, width)


def test_one_is_not_many():
    words = captured(planned(many(1), ENDLESS, seeds=1, workers=1), ENDLESS).split()
    assert words[4:6] == ["1", "seed,"]
    assert "worker:" in words
    assert "1 device:" in captured(predicted(many(1), ENDLESS), ENDLESS)


def test_scores_are_whole():
    scores = {"gold": -1234.5678, "tasks": {"a_task_of_a_long_name_" * 3: {"score": 0.5, "chance": 0.25, "n": 128}}}
    text = captured(scores_table(scores, 60), 60)
    obeys(text, 60)
    assert "-1235" in text
    assert "0.5 (chance 0.25, n 128)" in text


def test_a_pipe_has_no_width_unless_the_environment_says_one(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    screen = console()
    screen.print(predicted(many(40), screen.width))
    screen.print("note: " + "word " * 100)
    text = capsys.readouterr().out
    assert "No room" not in text
    assert all(name in text for name in NAMES)
    assert any(line.startswith("note:") and line.count("word") == 100 for line in text.splitlines())
    monkeypatch.setenv("COLUMNS", "80")
    assert console().width == 80


@pytest.mark.parametrize("columns", ["80", "140", ""])
def test_the_final_board_in_a_terminal_and_in_a_pipe(zoo, tmp_path, columns):
    shutil.copytree(KEPT, tmp_path / "kept")
    done = zoo("leaderboard", tmp_path / "kept", cwd=tmp_path, COLUMNS=columns)
    assert done.returncode == 0, done.stderr
    obeys(done.stdout, int(columns or ENDLESS))
    assert ("No room for" in done.stdout) == (columns == "80")
    titles = next(line for line in done.stdout.splitlines() if line.startswith("Rank")).split()
    assert set(titles) >= {"Proxy", "KL", "Seconds", "Seeds", "Notes"}
