"""Text passes through every file that the project writes as it was, whatever is in it."""

import json

from hypothesis import example, given
from hypothesis import strategies as st

from zoo_core.datasets.files import read_rows
from zoo_core.storage.atomic import write_json, write_rows, write_text

# Line ends of Unicode, half a surrogate pair, NUL, right to left, Windows' and old Macs' line ends, a byte order mark.
STRANGE = "a\u2028b\u2029c\u0085d\ud83de\x00f\u202eg\r\nh\ri\x0b\x0cj\x1c\ufeffk"
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40)


@given(st.lists(ANY_TEXT, min_size=1, max_size=4))
@example([STRANGE, "\ufeff"])
def test_rows_are_read_as_they_were_written_one_a_line(tmp_path_factory, texts):
    path = tmp_path_factory.getbasetemp() / "rows.jsonl"
    rows = [{"prompt": text, text: [text]} for text in texts]
    write_rows(path, rows)
    found = read_rows(str(path))
    assert found == rows
    assert [row.where for row in found] == [f"{path}:{number + 1}" for number in range(len(rows))]


@given(ANY_TEXT)
@example(STRANGE)
def test_json_is_read_as_it_was_written(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "value.json"
    write_json(path, {text: [text]})
    assert json.loads(path.read_text(encoding="utf-8")) == {text: [text]}


def test_plain_text_keeps_its_line_ends_and_shows_what_utf_8_cannot_hold(tmp_path):
    write_text(tmp_path / "text.md", STRANGE)
    assert (tmp_path / "text.md").read_bytes() == STRANGE.replace("\ud83d", r"\ud83d").encode()
