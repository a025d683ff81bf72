"""The figures that the READMEs show are those that were measured, and the judging by shortcuts is right."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner
from zoo_tinytown_gold.cli import app
from zoo_tinytown_gold.gates import Gate
from zoo_tinytown_gold.shortcuts import Pair, bag_of_words, longer_answer, shared_words
from zoo_tinytown_gold.table import BEGIN, END, add, with_table

from zoo_core.errors import DataError

FOLDER = Path(__file__).parents[1]


def test_the_readme_shows_the_figures_that_were_kept() -> None:
    text = (FOLDER / "README.md").read_text()
    assert with_table(text, FOLDER / "gates.json") == text


def test_gates_of_several_worlds_make_a_table_in_which_missed_ones_are_bold(tmp_path: Path) -> None:
    figures, readme = tmp_path / "gates.json", tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    add(figures, 10, [Gate("a", 0.5, 0.4, 0.6), Gate("b", 0.123, None, 0.1)])
    add(figures, 2, [Gate("a", 20_000.0, 20_000.0, 20_000.0)])
    add(figures, 10, [Gate("a", 0.55, 0.4, 0.6), Gate("b", 0.2, None, 0.1), Gate("c", -0.01)])
    result = CliRunner().invoke(app, ["table", str(figures), str(readme)])
    assert result.exit_code == 0, result.output
    assert readme.read_text() == (
        f"before\n{BEGIN}\n\n"
        "| figure | world 2 | world 10 | must be |\n|---|---|---|---|\n"
        "| a | 20,000 | 0.55 | 20000.00 to 20000.00, 0.40 to 0.60 |\n"
        "| b | – | **0.20** | at most 0.10 |\n"
        "| c | – | -0.01 |  |\n"
        f"\n{END}\nafter\n"
    )


def test_a_readme_without_marks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gates.json").write_text(json.dumps({}))
    with pytest.raises(DataError, match="Add both lines"):
        with_table("no marks", tmp_path / "gates.json")


@pytest.mark.parametrize(
    ("low", "high", "figure", "passes"),
    [
        (0.0, 1.0, 1.0, True),
        (0.0, 1.0, 1.01, False),
        (0.5, None, 0.4, False),
        (None, 0.5, 0.4, True),
        (None, None, 9.0, True),
    ],
)
def test_a_gate_passes_within_its_bounds_and_one_without_bounds_always(low, high, figure, passes) -> None:
    assert Gate("x", figure, low, high).passes is passes


PAIRS = [
    Pair("use the word red .", "a red kite .", "a blue kite ."),
    Pair("mention fox .", "the fox .", "a fox a fox ."),
]


def test_shared_words_are_counted_once_or_as_often_as_they_are_used_whichever_is_better() -> None:
    # Different words: 2 > 1 ("red" and "."), 2 = 2; so 1 and a coin. All words: 2 > 1, 2 < 3; so 1 and 0.
    assert shared_words(PAIRS) == 0.75


def test_the_longer_answer_has_more_words_and_a_tie_is_a_coin() -> None:
    assert longer_answer(PAIRS) == 0.25  # 4 and 4 words; 3 and 5


def test_a_bag_of_words_learns_a_word_that_is_always_better_and_nothing_from_words_that_are_not() -> None:
    good = [Pair("x", f"good {word} .", f"bad {word} .") for word in "abcdefgh"]
    assert bag_of_words(good[:6], good[6:]) == 1.0
    mixed = [Pair("x", *answers) for answers in (("p .", "q ."), ("q .", "p .")) * 6]
    assert bag_of_words(mixed, mixed) == 0.5
