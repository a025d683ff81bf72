"""docs/speed.md and the benchmarks' README say of speed what the benchmarks found."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).with_name("benchmarks")
REAL = Path(__file__).parents[2] / "shared" / "data" / "real"
TABLE = runpy.run_path(str(FOLDER / "table.py"))


@pytest.mark.parametrize(("path", "name", "make"), TABLE["TABLES"], ids=[name for _, name, _ in TABLE["TABLES"]])
def test_a_table_is_made_from_the_results(path, name, make):
    text = path.read_text()
    assert text.count(TABLE["BEGIN"].format(name)) == text.count(TABLE["END"].format(name)) == 1
    assert TABLE["between"](text, name, make(json.loads((FOLDER / "results.json").read_text()))) == text


def test_no_row_of_the_results_is_left_out():
    results = json.loads((FOLDER / "results.json").read_text())
    assert results["trl"].keys() <= TABLE["SPEED"].keys()
    assert results["sampling"].keys() <= TABLE["SAMPLING"].keys()


def test_a_ratio_is_written_with_its_spread():
    assert TABLE["times"]({"median": 3.14, "least": 2.0, "most": 4.56}) == "**3.14** (2.00 to 4.56)"


def test_only_what_is_between_the_markers_is_replaced():
    begin, end = TABLE["BEGIN"].format("x"), TABLE["END"].format("x")
    new = TABLE["between"](f"before\n{begin}\nold\n{end}\nafter\n", "x", ["new"])
    assert new == f"before\n{begin}\n\nnew\n\n{end}\nafter\n"


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="the real data are not beside this checkout")
@pytest.mark.parametrize("row", ["sft", "dpo", "ppo-hydra"])
def test_our_side_of_a_comparison_measures_itself(row, tmp_path):
    rows = tmp_path / "pairs.jsonl"
    write = f"from pathlib import Path; from materials import write_pairs; write_pairs(Path({str(rows)!r}), 96, 70)"
    subprocess.run([sys.executable, "-c", write], cwd=FOLDER, check=True)
    done = subprocess.run(
        [sys.executable, "ours.py", row, rows, "3"],
        cwd=FOLDER,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["flops"] > 1e9
    assert found["tokens"] > 500
    assert set(found["order"]) <= set(range(70))
    assert found["peak_bytes"] > found["imported_bytes"] > 0
