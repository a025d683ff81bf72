"""Data as people have it: each format becomes TRL's by a rule of its own, and what has no rule is refused in words."""

import json
from pathlib import Path

import pytest

from zoo_core.errors import DataError
from zoo_core.registry.references import load_all
from zoo_core.rows import Preference, Prompt

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
