"""Data as people have it: each format becomes TRL's by a rule of its own, and what has no rule is refused in words."""

import json
from pathlib import Path

import pytest

from zoo_core.errors import DataError
from zoo_core.registry.references import load_all, notes_on
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


# UltraFeedback


def test_conversations_that_begin_with_the_text_of_a_prompt_are_cut_behind_it(tmp_path):
    chosen, rejected = [user("hi"), assistant("yes")], [user("hi"), assistant("no")]
    row = {"prompt": "hi", "prompt_id": "7", "messages": chosen, "chosen": chosen, "rejected": rejected}
    assert read(tmp_path, "preferences", row) == [Preference([user("hi")], [assistant("yes")], [assistant("no")], "1")]
    assert read(tmp_path, "demonstrations", row) == [Demonstration([user("hi")], [assistant("yes")], "1")]
    assert read(tmp_path, "prompts", row) == [Prompt([user("hi")], "1")], "asked in the form that is learnt from"


# ShareGPT


SAID = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yes"}]


def test_sharegpts_speakers_become_roles(tmp_path):
    expected = [Demonstration([user("hi")], [assistant("yes")], "1")]
    assert read(tmp_path, "demonstrations", {"id": 1, "conversations": SAID}) == expected
    assert read(tmp_path, "demonstrations", {"conversations": [user("hi"), assistant("yes")]}) == expected
    assert read(tmp_path, "prompts", {"conversations": SAID}) == [Prompt([user("hi")], "1")]
    system = {"role": "system", "content": "be kind"}
    spoken = [{"from": "system", "value": "be kind"}, *SAID]
    for row in ({"conversations": spoken}, {"conversations": SAID, "system": "be kind"}):
        assert read(tmp_path, "demonstrations", row)[0].prompt == [system, user("hi")]


def test_sharegpts_conversation_beside_two_answers_is_their_prompt(tmp_path):
    row = {"conversations": SAID[:1], "chosen": SAID[1], "rejected": {"from": "gpt", "value": "no"}}
    assert read(tmp_path, "preferences", row) == [Preference([user("hi")], [assistant("yes")], [assistant("no")], "1")]


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        ({"from": "robot", "value": "x"}, "a turn from 'robot'; known speakers are human, user, gpt"),
        ({"from": ["gpt"], "value": "x"}, r"a turn from \['gpt'\]; known speakers are"),
        ({"from": "gpt"}, "a turn of ShareGPT needs a 'from' and a 'value'"),
        ({"from": "gpt", "value": None}, "'content' is None; it must be text"),
        ("x", "holds 'x'; a message needs a 'role'"),
    ],
)
def test_a_turn_of_sharegpt_that_is_none_is_named(tmp_path, turn, message):
    with pytest.raises(DataError, match=rf"rows\.jsonl:2: .*{message}"):
        read(tmp_path, "demonstrations", {"conversations": SAID}, {"conversations": [*SAID[:1], turn]})


# Alpaca


@pytest.mark.parametrize(("more", "asked"), [("", "Add."), ("2 and 3", "Add.\n\n2 and 3"), (None, "Add.")])
def test_alpacas_instruction_and_input_are_one_turn_and_its_output_the_answer(tmp_path, more, asked):
    row = {"instruction": "Add.", "input": more, "output": "5"}
    assert read(tmp_path, "demonstrations", row) == [Demonstration([user(asked)], [assistant("5")], "1")]
    assert read(tmp_path, "prompts", {"instruction": "Add.", "input": more}) == [Prompt([user(asked)], "1")]


def test_alpacas_system_and_history_come_before_and_two_answers_make_a_pair(tmp_path):
    row = {"instruction": "Add.", "system": "be kind", "history": [["hi", "yes"]], "chosen": "5", "rejected": "6"}
    prompt = [{"role": "system", "content": "be kind"}, user("hi"), assistant("yes"), user("Add.")]
    assert read(tmp_path, "preferences", row) == [Preference(prompt, [assistant("5")], [assistant("6")], "1")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"instruction": " "}, "'instruction' is empty"),
        ({"input": 3}, r"'input' must be text, it is int \(3\)"),
        ({"output": None}, "'completion' is null"),
        ({"output": ""}, "'completion' is empty"),
        ({"history": [["hi"]]}, r"'history' holds \['hi'\]; it must be a list of \[question, answer\]"),
    ],
)
def test_a_row_of_alpaca_that_is_none_is_named(tmp_path, change, message):
    row = {"instruction": "Add.", "input": "", "output": "5"}
    with pytest.raises(DataError, match=rf"rows\.jsonl:2: {message}"):
        read(tmp_path, "demonstrations", row, {**row, **change})


# What is said of all this


def test_no_conversion_is_silent_and_each_shows_a_row_before_and_after(tmp_path):
    first = {"conversations": SAID}
    read(tmp_path, "demonstrations", {"prompt": "a", "completion": "b"}, first, first)
    (note,) = notes_on(str(tmp_path / "rows.jsonl"), "demonstrations", 0)
    assert note.startswith(
        "2 of 3 rows are ShareGPT and converted: {'conversations': [{'from': 'human', 'value': 'hi'}"
    )
    assert note.endswith(
        " is read as {'completion': [{'content': 'yes', 'role': 'assistant'}], "
        "'prompt': [{'content': 'hi', 'role': 'user'}]}."
    )


@pytest.mark.parametrize(
    ("kind", "row", "note"),
    [
        ("preferences", HH, "2 of 2 rows are HH transcripts"),
        ("demonstrations", {"instruction": "Add.", "output": "5"}, "2 of 2 rows are Alpaca"),
        ("prompts", {"prompt": "hi", "messages": [user("hi"), assistant("yes")]}, "2 of 2 rows are UltraFeedback"),
    ],
)
def test_each_format_is_named(tmp_path, kind, row, note):
    read(tmp_path, kind, row, row)
    assert notes_on(str(tmp_path / "rows.jsonl"), kind, 0)[0].startswith(f"{note} and converted: ")


def test_rows_left_out_for_their_label_are_counted_and_rows_of_trl_need_no_note(tmp_path):
    read(tmp_path, "demonstrations", labelled("a", True), labelled("b", False), labelled("c", False))
    found = notes_on(str(tmp_path / "rows.jsonl"), "demonstrations", 0)
    assert found == ["2 of 3 rows have a false label (KTO) and are not imitated."]
    alpaca = {"instruction": "Add.", "output": "5"}
    read(tmp_path, "demonstrations", {**alpaca, "label": False}, {**alpaca, "label": True})
    found = notes_on(str(tmp_path / "rows.jsonl"), "demonstrations", 0)
    assert [note.partition(" rows ")[0] for note in found] == ["2 of 2", "1 of 2"]
    read(tmp_path, "preferences", {"prompt": [user("hi")], "chosen": [assistant("a")], "rejected": [assistant("b")]})
    assert notes_on(str(tmp_path / "rows.jsonl"), "preferences", 0) == []


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
