"""Laws of the outputs: every number is there, no text is more than text, the same board is the same bytes."""

import csv as csv_format
import io
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from zoo_leaderboard.board import build
from zoo_leaderboard.columns import Column, number
from zoo_leaderboard.page import page
from zoo_leaderboard.render import csv, markdown, table
from zoo_leaderboard.terminal import fitted
from zoo_leaderboard.write import write

from zoo_core.errors import StorageError

Make = Callable[..., dict[str, Any]]

HOSTILE = "&lt;<img src=x onerror=alert(1)>|`a`[b](javascript:c)\n\x1b[31m\u202e</script><!--"


@pytest.fixture
def board(make_bench: Make, make_record: Make) -> dict[str, Any]:
    rows = {"start": 0.5, "base": 0.4, "ppo": 0.8, "dpo": 0.7}
    records = [make_record(r, s, gold=g + 0.01 * s, facts=0.6) for r, g in rows.items() for s in range(5)]
    records += [make_record("nan", s, status="failed", error="loss is NaN") for s in range(5)]
    return build(make_bench(seeds=5), records)


@pytest.fixture
def hostile(make_bench: Make, make_record: Make) -> dict[str, Any]:
    bad = {"plugin": HOSTILE, "plugin_version": HOSTILE, "paper": "javascript:alert(1)", "tuning": HOSTILE}
    item = {"prompt": HOSTILE, "response": HOSTILE, "gold": 0.1, "proxy": None, "gold_start": None}
    tasks = {HOSTILE: {"score": 0.5, "stderr": None, "chance": None, "n": None}}
    record = make_record(HOSTILE, 0, tasks=tasks, flags=[HOSTILE], items=[item], settings={HOSTILE: "=1+1"}, **bad)
    records = [make_record("start"), record, make_record("=1+1", 0, status="failed", error=HOSTILE)]
    return build(make_bench(seeds=1, name=HOSTILE, preset=HOSTILE, command=HOSTILE), records)


def shown(board: dict[str, Any], width: int = 120) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(table(board, width))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_table_fits_in_120_columns_and_keeps_every_number_whole(board: dict[str, Any]) -> None:
    text = shown(board)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 120
    # ppo: gold .80 to .84, start .50 to .54, headroom (g - s)/(1 - s) = .3/.5, .3/.49 ... .3/.46: mean .626
    (ppo,) = [line for line in lines if " ppo " in line]
    assert re.search(r"\b1 +ppo +0\.63 \[0\.60, 0\.65\] +0\.82 +\+0\.30 ", ppo)
    (failed,) = [line for line in lines if " nan " in line]
    assert failed.split()[-2:] == ["0/5", "failed"]


def test_long_names_and_flags_are_folded_and_cost_no_column(make_bench: Make, make_record: Make) -> None:
    name = "algorithm beta=0.123456789 epochs=4"
    records = [make_record("start"), make_record(name, flags=["budget under-used", "update discarded"])]
    text = shown(build(make_bench(seeds=1), records))
    assert max(map(len, text.splitlines())) <= 120
    assert "No room for Settings: see" in text
    assert all(part in text for part in ("algorithm", "beta=0.1234", "789", "epochs=4", "update", "discarded"))


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_narrow_terminal_gets_fewer_columns_and_no_cut_number(board: dict[str, Any], width: int) -> None:
    text = shown(board, width)
    (ppo,) = [line for line in text.splitlines() if " ppo " in line]
    assert re.search(r"\b1 +ppo +0\.63 \[0\.60, 0\.65\] ", ppo)
    assert max(map(len, text.splitlines())) <= width
    assert "No room for Settings, Len" in text
    assert text.splitlines()[0].startswith("test bench")


def test_80_characters_show_what_the_readme_explains_first(make_bench: Make, make_record: Make) -> None:
    rows = {"start": -12.5, "base": -13.25, "sft-chosen": -10.75, "best-of-16": -11.5}
    records = [make_record(r, s, gold=g + 0.01 * s) for r, g in rows.items() for s in range(10)]
    text = shown(build(make_bench(seeds=10), records), 80)
    titles = next(line for line in text.splitlines() if line.startswith("Rank"))
    assert titles.split() == ["Rank", "Row", "Headroom", "gained", "Proxy", "KL", "Seconds", "Seeds", "Notes"]
    assert "No room for Settings, Len, Wins, Used, Δ tasks, Δ start, Gold: see" in text


def cells() -> st.SearchStrategy[list[list[str]]]:
    """Lines of a row's name, two numbers and a remark."""
    text = st.text("ab ü文-=.", max_size=40)
    figure = st.floats(-1e9, 1e9).map("{:.2f}".format)
    return st.lists(st.tuples(text, figure, figure, text).map(list), min_size=1, max_size=6)


@given(lines=cells(), room=st.integers(40, 160), turn=st.booleans())
def test_no_line_is_wider_than_the_room_and_every_number_is_whole_or_named(
    lines: list[list[str]], room: int, turn: bool
) -> None:
    titles = ("Row", "Gold", "Seconds", "Notes")
    chosen = [Column(title, itemgetter(place), left=place in (0, 3)) for place, title in enumerate(titles)]
    with_room = fitted(chosen, [lines], room, title="T", dispensable=("Gold",), instead="see x", turn=turn)
    console = Console(width=room, file=io.StringIO(), color_system=None)
    console.print(with_room)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(cell_len, text.splitlines())) <= room
    assert "…" not in text
    for line in lines:
        assert line[2] in text.split()
        assert line[1] in text.split() or "No room for Gold: see x." in text


def test_a_few_rows_are_turned_before_a_number_is_left_out() -> None:
    chosen = [Column(title, str, left=title == "row") for title in ("row", *(f"figure {n}" for n in range(12)))]
    few = {"room": 80, "title": "", "dispensable": ["figure 0"], "instead": "see x", "turn": True}
    assert [column.header.plain for column in fitted(chosen, [["a", "b"]], **few).columns] == ["row", "a", "b"]
    assert len(fitted(chosen, [["a"] * 5], **few).columns) == 12


def test_markdown_has_a_line_for_every_row_and_the_failures(board: dict[str, Any]) -> None:
    text = markdown(board)
    assert "| 1 | ppo | 0.63 \\[0.60, 0.65\\] | 0.82 | +0.30 |" in text
    assert "| ppo | dpo |" in text.split("## Separated pairs")[1]
    assert "| nan | 4 | loss is NaN |" in text.split("## Failures")[1]
    widths = {line.count(" | ") for line in text.split("##")[0].splitlines() if line.startswith("|")}
    assert widths == {13}


def test_csv_holds_each_number_in_full(board: dict[str, Any]) -> None:
    lines = list(csv_format.DictReader(io.StringIO(csv(board))))
    assert [line["row"] for line in lines] == [row["row"] for row in board["rows"]]
    for line, row in zip(lines, board["rows"], strict=True):
        for name in ("headline", "gold", "gold_delta_start"):
            assert line[name] == ("" if row[name]["mean"] is None else repr(row[name]["mean"]))
    assert float(lines[-1]["gold_delta_start"]) == pytest.approx(-0.1)  # a minus sign is no formula
    assert float(lines[0]["tasks.facts"]) == pytest.approx(0.6)


def test_hostile_text_cannot_break_out_of_the_terminal(hostile: dict[str, Any]) -> None:
    text = shown(hostile, width=400)
    assert "<img src=x onerror=alert(1)>" in text
    assert not set("\x1b\u202e") & set(text)


def test_hostile_text_is_no_markup_in_markdown(hostile: dict[str, Any]) -> None:
    text = markdown(hostile)
    assert "&amp;lt;&lt;img src=x onerror=alert(1)&gt;\\|\\`a\\`\\[b\\](javascript:c)" in text
    assert "<" not in text
    assert not re.search(r"(?<!\\)[`\[\]]", text)
    assert not set("\x1b\u202e") & set(text)
    for section in text.split("\n\n"):
        pipes = {len(re.findall(r"(?<!\\)\|", line)) for line in section.splitlines() if line.startswith("|")}
        assert len(pipes) <= 1


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r"])
def test_no_csv_cell_begins_a_formula(make_bench: Make, make_record: Make, first: str) -> None:
    name = f"{first}1+1"
    board = build(make_bench(seeds=1), [make_record("start"), make_record(name, settings={name: name})])
    cells = [cell for line in csv_format.reader(io.StringIO(csv(board), newline="")) for cell in line]
    assert cells.count(f"'{name}") == 3  # the row, its algorithm and its setting
    assert name not in cells


def test_hostile_text_is_no_formula_in_csv(hostile: dict[str, Any]) -> None:
    cells = [cell for line in csv_format.reader(io.StringIO(csv(hostile))) for cell in line]
    assert "'=1+1" in cells
    for cell in cells:
        assert not cell.startswith(("=", "+", "@", "\t", "\r"))
        assert not cell.startswith("-") or math.isfinite(float(cell))


def test_the_page_embeds_hostile_text_as_data_only(hostile: dict[str, Any]) -> None:
    text = page(hostile)
    data = text.split('id="board">')[1].split("</script>")[0]
    assert json.loads(data)["name"] == HOSTILE.replace("\u202e", "")
    assert not set("<>&\u2028\u2029") & set(data)
    assert text.count("<script") == text.count("</script>") == 5  # two of data, two libraries, ours
    assert "<img" not in text
    assert "<title>&amp;lt;&lt;img src=x" in text


def test_the_page_loads_nothing_and_names_its_script_and_style_by_hash(board: dict[str, Any]) -> None:
    text = page(board)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    libraries = re.findall(r"<script>/\*\nCopyright .*?</script>", text, re.DOTALL)
    assert len(libraries) == 2
    ours = text
    for library in libraries:
        ours = ours.replace(library, "")
    assert not re.search(r"<link|<iframe|\ssrc=|@import|url\(", ours)
    assert set(re.findall(r"https?://[\w./]+", ours)) == {"https://arxiv.org/abs/"}


def test_numbers_that_json_does_not_have_become_null(board: dict[str, Any], tmp_path: Path) -> None:
    board["rows"][0]["wall_seconds"] = float("nan")
    board["minimum_detectable_difference"] = float("-inf")
    write(board, tmp_path)
    read = json.loads((tmp_path / "leaderboard.json").read_text(), parse_constant=pytest.fail)
    assert read["rows"][0]["wall_seconds"] is read["minimum_detectable_difference"] is None


def test_the_json_file_is_the_board(board: dict[str, Any], tmp_path: Path) -> None:
    write(board, tmp_path)
    assert json.loads((tmp_path / "leaderboard.json").read_text()) == board


def test_the_same_board_is_the_same_bytes_in_any_process(board: dict[str, Any], tmp_path: Path) -> None:
    paths = write(board, tmp_path / "one")
    (tmp_path / "board.json").write_text(json.dumps(board))
    imports = "import json, sys; from zoo_leaderboard.write import write"
    code = f"{imports}; write(json.load(open(sys.argv[1])), sys.argv[2])"
    two = tmp_path / "two"
    environment = {"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": "1"}
    subprocess.run([sys.executable, "-c", code, tmp_path / "board.json", two], check=True, env=environment)
    assert [path.name for path in paths] == [f"leaderboard.{suffix}" for suffix in ("json", "md", "csv", "html")]
    assert all(path.read_bytes() == (two / path.name).read_bytes() for path in paths)
    assert sorted(path.name for path in two.iterdir()) == sorted(path.name for path in paths)


def turned(value: Any) -> Any:
    """Return the same value with the keys of every dict in the reverse order."""
    if isinstance(value, dict):
        return {key: turned(part) for key, part in reversed(value.items())}
    return [turned(part) for part in value] if isinstance(value, list) else value


def test_the_order_of_keys_does_not_show(board: dict[str, Any], tmp_path: Path) -> None:
    for one, two in zip(write(board, tmp_path / "a"), write(turned(board), tmp_path / "b"), strict=True):
        assert one.read_bytes() == two.read_bytes(), one.name


def test_a_rounded_zero_has_no_sign_and_an_unknown_number_is_a_dash() -> None:
    assert [number(value, signed=True) for value in (-0.001, 0.001, 0.126, -0.126, None)] == [
        "0.00", "0.00", "+0.13", "-0.13", "–",
    ]  # fmt: skip


def test_a_failed_write_leaves_the_old_file_and_no_litter(
    board: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(board, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        write(board | {"name": "new"}, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_neither_board_nor_page_needs_torch() -> None:
    imports = "import sys, zoo_leaderboard.load, zoo_leaderboard.write"
    code = f"{imports}; print({{'torch', 'transformers'}} & set(sys.modules))"
    environment = {"PYTHONPATH": ":".join(sys.path)}
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    assert found.stdout.strip() == "set()"
