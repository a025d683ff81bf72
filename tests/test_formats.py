"""Data as people have it: each format becomes TRL's by a rule of its own, and what has no rule is refused in words."""

import json
from pathlib import Path

import pytest

from zoo_core.errors import DataError
from zoo_core.registry.references import load_all
from zoo_core.rows import Demonstration, Preference, Prompt

REAL = Path(__file__).parents[2] / "shared" / "data" / "real"


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def read(folder, kind, *rows):
    """Return what a file of these rows is read as; the place of each is its line."""
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [type(row)(**{**vars(row), "where": row.where.rpartition(":")[2]}) for row in load_all(str(path), kind, 0)]


# HH transcripts


HH = {
    "chosen": "\n\nHuman: Hi there\n\nAssistant: Hello.\n\nHuman: Is it late?\n\nAssistant: I think so.\n\nIt is ten.",
    "rejected": "\n\nHuman: Hi there\n\nAssistant: Hello.\n\nHuman: Is it late?\n\nAssistant: I think not.",
}


def test_transcripts_are_cut_at_the_last_speakers_turn_and_not_at_the_last_common_word(tmp_path):
    prompt = [user("Hi there"), assistant("Hello."), user("Is it late?")]
    chosen, rejected = [assistant("I think so.\n\nIt is ten.")], [assistant("I think not.")]
    assert read(tmp_path, "preferences", HH) == [Preference(prompt, chosen, rejected, "1")]
    assert read(tmp_path, "prompts", HH) == [Prompt(prompt, "1")]


def test_a_speakers_name_within_a_turn_begins_no_turn(tmp_path):
    said = "Human: and Assistant:\nHuman: are names"
    row = {"chosen": f"Human: who?\n\nAssistant: {said}", "rejected": "Human: who?\n\nAssistant: you"}
    assert read(tmp_path, "preferences", row) == [
        Preference([user("who?")], [assistant(said)], [assistant("you")], "1")
    ]


def test_texts_that_are_no_transcripts_keep_the_rule_of_trl(tmp_path):
    row = {"chosen": "The Human: is blue", "rejected": "The Human: is green"}
    assert read(tmp_path, "preferences", row) == [Preference("The Human: is", " blue", " green", "1")]
    row = {"prompt": "\n\nHuman: a\n\nAssistant:", "chosen": " b", "rejected": " c"}
    assert read(tmp_path, "preferences", row) == [Preference(row["prompt"], " b", " c", "1")]


@pytest.mark.parametrize(
    ("rejected", "message"),
    [
        (HH["rejected"].replace("Hello", "Bye"), r"differ before the last turn of the Assistant \(in turn 2 of"),
        (HH["rejected"] + "\n\nHuman: No?\n\nAssistant: No.", r"\(in turn 4 of 4 and 6\).* Cut both behind the first"),
        (HH["rejected"] + "\n\nHuman: No?", "'rejected' ends with a turn of Human; .* Add the answer, or remove"),
        ("I think not.", "'rejected' does not begin with 'Human:' or 'Assistant:', and the other side does"),
        ("\n\nHuman: Hi there\n\nAssistant: Hello.\n\nHuman: Is it late?\n\nAssistant:", "'rejected' is empty"),
    ],
)
def test_transcripts_that_are_no_two_answers_to_one_prompt_are_refused(tmp_path, rejected, message):
    with pytest.raises(DataError, match=rf"rows\.jsonl:2: .*{message}"):
        read(tmp_path, "preferences", HH, {**HH, "rejected": rejected})


# KTO


def labelled(answer, label):
    return {"prompt": "ask", "completion": answer, "label": label}


@pytest.mark.parametrize(("yes", "no"), [(True, False), (1, 0), ("True", "False")])
def test_answers_with_a_false_label_are_not_imitated(tmp_path, yes, no):
    rows = [labelled("a", yes), labelled("b", no), labelled("c", yes), {"prompt": "ask", "completion": "d"}]
    found = read(tmp_path, "demonstrations", *rows)
    assert found == [Demonstration("ask", answer, line) for answer, line in (("a", "1"), ("c", "3"), ("d", "4"))]
    assert len(read(tmp_path, "prompts", *rows)) == 4


def test_a_column_label_that_holds_other_things_leaves_no_row_out(tmp_path):
    rows = [labelled("a", 0), labelled("b", 2), labelled("c", "maths")]
    assert [row.completion for row in read(tmp_path, "demonstrations", *rows)] == ["a", "b", "c"]
    films = [{"text": "dull", "label": 0}, {"text": "great", "label": 1}]
    assert [row.completion for row in read(tmp_path, "demonstrations", *films)] == ["dull", "great"]


def test_a_label_that_is_no_truth_value_among_others_that_are_is_named(tmp_path):
    with pytest.raises(DataError, match=r"rows\.jsonl:2: 'label' is 'nope'; .* it must be true or false"):
        read(tmp_path, "demonstrations", labelled("a", True), labelled("b", "nope"))


def test_a_file_without_any_true_label_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"rows\.jsonl: none of its 2 rows has a true 'label' \(KTO\)"):
        read(tmp_path, "demonstrations", labelled("a", False), labelled("b", False))


def test_answers_with_labels_are_no_pairs(tmp_path):
    with pytest.raises(DataError, match=r"rows\.jsonl:1: this is one answer with a label \(KTO\), and a preference"):
        read(tmp_path, "preferences", labelled("a", True))
    pair = {"prompt": "ask", "chosen": "a", "rejected": "b", "label": 1}
    assert read(tmp_path, "preferences", pair) == [Preference("ask", "a", "b", "1")]


@pytest.mark.skipif(not REAL.is_dir(), reason="the real data are not beside this checkout")
def test_real_pairs_written_as_transcripts_are_read_as_the_same_messages(tmp_path):
    rows = [json.loads(line) for line in (REAL / "preferences.jsonl").read_text().splitlines()]
    sides = [{name: transcript([*row["prompt"], *row[name]]) for name in ("chosen", "rejected")} for row in rows]
    given = load_all(str(REAL / "preferences.jsonl"), "preferences", 0)
    for one, again in zip(given, read(tmp_path, "preferences", *sides), strict=True):
        assert [turns(part) for part in (again.prompt, again.chosen, again.rejected)] == [
            turns(part) for part in (one.prompt, one.chosen, one.rejected)
        ]


def transcript(messages):
    names = {"user": "Human", "assistant": "Assistant"}
    return "".join(f"\n\n{names[message['role']]}: {message['content']}" for message in messages)


def turns(messages):
    return [(message["role"], message["content"].strip()) for message in messages]
