"""Rows are read in TRL's types, a wrong one is named by file and line, and no conversation stands in two splits."""

import json

import pytest
from datasets import Dataset, DatasetDict

from zoo_core.datasets.parse import demonstrations, preference, prompt_only
from zoo_core.datasets.splits import split_of
from zoo_core.errors import DataError
from zoo_core.registry.references import load_all, load_rows
from zoo_core.rows import Demonstration, Preference, Prompt, canonical, fingerprint

USER = {"role": "user", "content": "hi"}
ASSISTANT = {"role": "assistant", "content": "yes"}
NO = {"role": "assistant", "content": "no"}
MORE = {"role": "user", "content": "more"}


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def prompts(tmp_path):
    """Two rows for each of 300 first turns."""
    rows = []
    for number in range(300):
        first = {"role": "user", "content": f"Question {number}?"}
        rows += [{"prompt": [first]}, {"prompt": [first, ASSISTANT, {"role": "user", "content": f"more {number}"}]}]
    return written(tmp_path / "prompts.jsonl", rows)


# Types


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "a", "completion": " b"}, ("a", " b")),
        ({"prompt": [USER], "completion": [ASSISTANT]}, ([USER], [ASSISTANT])),
        ({"text": "a b"}, ("", "a b")),
        ({"messages": [USER, ASSISTANT]}, ([USER], [ASSISTANT])),
        ({"messages": [USER, ASSISTANT], "extra": 1}, ([USER], [ASSISTANT])),
    ],
    ids=["standard", "conversational", "text", "messages", "extra"],
)
def test_demonstrations_come_in_all_types_of_trl(row, expected):
    assert demonstrations(row, "here") == [Demonstration(*expected, "here")]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "a", "chosen": " b", "rejected": " c"}, ("a", " b", " c")),
        ({"prompt": [USER], "chosen": [ASSISTANT], "rejected": [NO]}, ([USER], [ASSISTANT], [NO])),
        ({"chosen": [USER, ASSISTANT], "rejected": [USER, NO]}, ([USER], [ASSISTANT], [NO])),
        ({"chosen": "The sky is blue", "rejected": "The sky is green"}, ("The sky is", " blue", " green")),
    ],
    ids=["standard", "conversational", "implicit prompt", "implicit prompt as text"],
)
def test_preferences_come_in_all_types_of_trl(row, expected):
    assert preference(row, "here") == Preference(*expected, "here")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [USER]},
        {"prompt": [USER], "completion": [ASSISTANT]},
        {"prompt": [USER], "chosen": [ASSISTANT], "rejected": [NO]},
        {"chosen": [USER, ASSISTANT], "rejected": [USER, NO]},
    ],
)
def test_rows_of_other_types_serve_as_prompts(row):
    assert prompt_only(row, "here") == Prompt([USER], "here")


def test_every_turn_of_the_assistant_is_a_demonstration_of_what_comes_before_it():
    whole = [USER, NO, MORE, ASSISTANT]
    first, second = (
        Demonstration([USER], [NO], "here (answer 1 of 2)"),
        Demonstration([USER, NO, MORE], [ASSISTANT], "here (answer 2 of 2)"),
    )
    assert demonstrations({"messages": whole}, "here") == [first, second]
    assert demonstrations({"prompt": [USER], "completion": whole[1:]}, "here") == [first, second]
    greeting = demonstrations({"messages": [ASSISTANT, USER, NO]}, "here")
    assert greeting == [Demonstration([ASSISTANT, USER], [NO], "here")]


def test_what_two_conversations_begin_with_alike_is_their_prompt():
    row = {"prompt": [USER], "chosen": [NO, MORE, ASSISTANT], "rejected": [NO, MORE, NO]}
    expected = Preference([USER, NO, MORE], [ASSISTANT], [NO], "here")
    assert preference(row, "here") == expected
    del row["prompt"]
    assert preference({name: [USER, *turns] for name, turns in row.items()}, "here") == expected
    assert preference({"prompt": [USER], "chosen": [NO], "rejected": [NO]}, "here") == Preference(
        [USER], [NO], [NO], "here"
    )


@pytest.mark.parametrize("prompt", [[USER], "hi", " hi\n"], ids=["messages", "text", "text with blanks"])
def test_a_prompt_that_an_answer_holds_again_is_taken_off(prompt):
    row = {"prompt": prompt, "chosen": [USER, ASSISTANT], "rejected": [USER, NO], "completion": [USER, ASSISTANT]}
    assert preference(row, "here") == Preference([USER], [ASSISTANT], [NO], "here")
    assert demonstrations(row, "here") == [Demonstration([USER], [ASSISTANT], "here")]


def test_answers_in_plain_text_that_hold_their_prompts_again_are_refused(tmp_path):
    again = [{"prompt": f"ask {n}", "completion": f"ask {n} yes"} for n in range(8)]
    apart = [{"prompt": f"ask {n}", "completion": f"yes {n}"} for n in range(7)]
    path = written(tmp_path / "rows.jsonl", [*apart, *again])
    with pytest.raises(DataError, match=r"rows\.jsonl:8: the answer begins with the whole prompt, as those of 8 of"):
        load_all(path, "demonstrations", 0)
    assert len(load_all(written(tmp_path / "some.jsonl", [*apart, *again[:6]]), "demonstrations", 0)) == 13


def test_parts_of_a_message_are_joined():
    parts = [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]
    assert prompt_only({"prompt": [{"role": "user", "content": parts}]}, "here").prompt == [USER]


def test_messages_keep_role_and_content_only():
    row = {"prompt": [{**USER, "name": "Ann", "time": 3}]}
    assert prompt_only(row, "here").prompt == [USER]


# Wrong rows

WRONG = [
    ("prompts", {"question": "a"}, r"the row has no 'prompt'; a prompt needs prompt. It has: question"),
    ("prompts", {}, "It has: nothing"),
    ("prompts", {"prompt": "  "}, "'prompt' is empty"),
    ("prompts", {"prompt": []}, "'prompt' must be a string or a list of messages, it is list"),
    ("prompts", {"prompt": 3}, r"it is int \(3\)"),
    ("prompts", {"prompt": ["hi"]}, "'prompt' holds 'hi'; a message needs a 'role'"),
    (
        "prompts",
        {"prompt": [{"role": "robot", "content": "x"}]},
        "the role 'robot'; known roles are system, user",
    ),
    ("prompts", {"prompt": [{"role": "user", "content": None}]}, "'content' is None; it must be text"),
    ("prompts", {"prompt": [{"role": "user"}]}, "a message needs a 'role' and a 'content'"),
    ("prompts", {"prompt": [{"role": "user", "content": [{"type": "image_url"}]}]}, "a part that is no text"),
    ("prompts", {"prompt": "a \ud83d b"}, r"'prompt' has half of a surrogate pair \(\\ud83d\) at character 2"),
    ("prompts", {"prompt": [{"role": "user", "content": "\udc00"}]}, r"half of a surrogate pair \(\\udc00\)"),
    ("demonstrations", {"prompt": "a"}, "the row has no 'completion'; a demonstration needs prompt, completion"),
    ("demonstrations", {"prompt": "a", "chosen": "b", "rejected": "c"}, "a pair and no demonstration; .* leave `dem"),
    ("demonstrations", {"prompt": "a", "completion": None}, "'completion' is null; a demonstration needs"),
    ("demonstrations", {"prompt": "a", "completion": [ASSISTANT]}, "'prompt' is text but 'completion' is not"),
    ("demonstrations", {"messages": [USER]}, "must be a list that ends with an assistant's message"),
    ("demonstrations", {"messages": "hi"}, "must be a list of messages, it is a string"),
    ("demonstrations", {"messages": [ASSISTANT]}, "nothing before the assistant's message"),
    ("demonstrations", {"messages": [USER, {**ASSISTANT, "content": " "}]}, "'messages' is empty"),
    ("demonstrations", {"prompt": [USER], "completion": [MORE, NO]}, "begins with a message of the role 'user'"),
    ("preferences", {"prompt": [USER], "chosen": [MORE, NO], "rejected": [MORE, NO]}, "the role 'user'"),
    ("preferences", {"prompt": [USER], "chosen": [NO, MORE, NO], "rejected": [ASSISTANT]}, "3 messages of its own"),
    ("preferences", {"prompt": [USER], "chosen": [{**NO, "content": ""}], "rejected": [NO]}, "'chosen' is empty"),
    ("demonstrations", {"text": ""}, "'text' is empty"),
    ("preferences", {"chosen": "a", "prompt": "b"}, "the row has no 'rejected'; a preference needs"),
    ("preferences", {"chosen": "a", "rejected": [NO], "prompt": "b"}, "'chosen' is text but 'rejected' is not"),
    ("preferences", {"chosen": [NO], "rejected": [NO], "prompt": "b"}, "'prompt' is text but 'chosen' is not"),
    ("preferences", {"chosen": "yes", "rejected": "no"}, "there is no 'prompt', and chosen and rejected do not share"),
    ("preferences", {"chosen": "The sky", "rejected": "The sky"}, "add a 'prompt'.* It has: chosen, rejected"),
    ("preferences", {"chosen": "yes", "rejected": "yes"}, "'prompt', and chosen and rejected are the same"),
    (
        "preferences",
        {"prompt": None, "chosen": "a", "rejected": "b"},
        "'prompt' is null, and chosen and rejected do not",
    ),
    ("preferences", {"promt": "a", "chosen": "b", "rejected": "c"}, r"has: promt, .* Did you mean 'prompt'\?"),
    ("preferences", {"prompt": "a", "chosen": None, "rejected": "b"}, r"'chosen' is null; a preference .* Fill it in"),
    ("prompts", {"promt": "a", "id": 3}, r"the row has no 'prompt'; .* It has: promt, id\. Did you mean 'prompt'\?"),
    ("demonstrations", {"promt": "a", "completion": "b"}, r"It has: promt, completion\. Did you mean 'prompt'\?"),
    ("demonstrations", {"prompt": "a", "completions": "b"}, r"no 'completion'; .* Did you mean 'completion'\?"),
    (
        "preferences",
        {"promt": "a", "chosen": "The sky is blue", "rejected": "The sky is red"},
        r"the row has no 'prompt'\. It has: promt, chosen, rejected\. Did you mean 'prompt'\?",
    ),
]


@pytest.mark.parametrize(("kind", "row", "message"), WRONG)
def test_a_wrong_row_is_named_by_file_and_line(tmp_path, kind, row, message):
    good = {"prompt": "p", "completion": "c", "chosen": "a", "rejected": "b"}
    path = written(tmp_path / "rows.jsonl", [good, good, row])
    with pytest.raises(DataError, match=rf"rows\.jsonl:3: .*{message}"):
        load_all(path, kind, 0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"prompt": "a"', "this line is not JSON.*The file's last line is cut off"),
        (b'{"prompt": "a",}\n', r"this line is not JSON \("),
        (b'{"prompt": "a", "prompt": "b"}\n', r"this line is not JSON \(the key 'prompt' is there twice\)"),
        (b'["a"]\n', "a row must be a JSON object, this is a list"),
        (b'{"prompt": "\xff"}\n', "this line is not JSON"),
    ],
)
def test_a_line_that_is_no_row_is_named(tmp_path, line, message):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"prompt": "a"}\n\n' + line)
    with pytest.raises(DataError, match=rf"rows\.jsonl:3: {message}"):
        load_all(str(path), "prompts", 0)


# Files


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_a_list_of_rows_is_read_and_each_row_knows_its_line(tmp_path, indent, bom):
    path = tmp_path / "rows.json"
    path.write_bytes(bom + json.dumps([{"prompt": "a"}, {"prompt": "b\nc"}], indent=indent).encode())
    lines = (1, 1) if indent is None else (2, 5)
    assert [(row.prompt, row.where) for row in load_all(str(path), "prompts", 0)] == [
        (text, f"{path}:{line}") for text, line in zip(("a", "b\nc"), lines, strict=True)
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[\n{"prompt": "a"},\n{"prompt": }\n]', "rows.json:3: this element of the list is not JSON"),
        ('[\n{"prompt": "a"}\n{"prompt": "b"}]', "rows.json:3: the list goes on without a comma"),
        ('[\n{"prompt": "a"},\n', "rows.json:3: this element of the list is not JSON"),
        ('[{"prompt": "a"},\n3]', "rows.json:2: a row must be a JSON object, this is a int"),
        ('{\n"prompt": "a"\n}', "rows.json:1: .*The file is one JSON value; give one object a line, or one list"),
    ],
)
def test_a_wrong_list_is_named_by_line(tmp_path, text, message):
    path = tmp_path / "rows.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        load_all(str(path), "prompts", 0)


def test_a_file_of_another_encoding_is_named_with_the_remedy(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a"}\n', encoding="utf-16")
    with pytest.raises(DataError, match=r"UTF-16\. Save it in UTF-8: iconv"):
        load_all(str(path), "prompts", 0)


def test_empty_lines_are_skipped_and_still_counted(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('\n{"prompt": "a"}\n\n{"prompt": "b"}')
    assert [(row.prompt, row.where) for row in load_all(str(path), "prompts", 0)] == [
        ("a", f"{path}:2"),
        ("b", f"{path}:4"),
    ]


def test_parquet_and_saved_data_sets_give_the_rows_of_the_jsonl_file(tmp_path):
    rows = [{"prompt": [{**USER, "content": f"hi {n}"}], "completion": [ASSISTANT]} for n in range(5)]
    data = Dataset.from_list(rows)
    data.to_parquet(tmp_path / "rows.parquet")
    data.save_to_disk(tmp_path / "saved")
    DatasetDict(train=data, test=data.select([0])).save_to_disk(tmp_path / "splits")
    expected = fingerprint(load_all(written(tmp_path / "rows.jsonl", rows), "demonstrations", 0))
    for name in ("rows.parquet", "saved", "splits"):
        loaded = load_all(str(tmp_path / name), "demonstrations", 0)
        assert fingerprint(loaded) == expected
        assert loaded[3].where == f"{tmp_path / name} row 3"


def test_a_wrong_row_of_a_parquet_file_is_named_too(tmp_path):
    Dataset.from_list([{"prompt": "a"}, {"prompt": None}]).to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=r"rows\.parquet row 1: 'prompt' is null"):
        load_all(str(tmp_path / "rows.parquet"), "prompts", 0)


def test_what_is_no_data_set_is_answered_with_what_is(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "rows.txt").write_text("a")
    (tmp_path / "bad.parquet").write_bytes(b"PAR0")
    (tmp_path / "folder").mkdir()
    few = Dataset.from_list([{"prompt": "a"}])
    DatasetDict(test=few, dev=few).save_to_disk(tmp_path / "no-train")
    for name, message in {
        "empty.jsonl": "the file is empty",
        "rows.txt": "cannot tell the format from the ending '.txt'",
        "bad.parquet": "not a readable Parquet file",
        "folder": "not a directory written by save_to_disk",
        "no-train": r"has the splits test, dev but no 'train'; name one: no-train#test",
        "missing.jsonl": "there is no such file or directory",
    }.items():
        with pytest.raises(DataError, match=message):
            load_all(str(tmp_path / name), "prompts", 0)
    with pytest.raises(DataError, match="neither a file, a saved data set, a hub id nor"):
        load_all("nothing", "prompts", 0)


def test_a_hub_id_without_network_says_so(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match="HF_HUB_OFFLINE is set and it is not in the local cache"):
        load_all("no-such-org-at-all/no-such-data", "prompts", 0)


# Splits and limits


def first_turns(rows):
    return {row.prompt[0]["content"] for row in rows}


def test_splits_share_no_first_turn_and_leave_none_out(prompts):
    splits = [load_rows(prompts, kind, 0) for kind in ("prompts", "dev_prompts", "test_prompts")]
    turns = [first_turns(rows) for rows in splits]
    assert sum(map(len, turns)) == len(set.union(*turns)) == 300
    assert sum(map(len, splits)) == 600
    # Binomial: 30 of 300 expected with a standard deviation of 5.2; four of them either way.
    assert 9 <= len(turns[1]) <= 51
    assert 9 <= len(turns[2]) <= 51


def test_the_test_split_is_the_same_for_every_seed_in_another_order_and_dev_is_another(prompts):
    tests = [load_rows(prompts, "test_prompts", seed) for seed in range(3)]
    assert first_turns(tests[0]) == first_turns(tests[1]) == first_turns(tests[2])
    assert len({fingerprint(rows) for rows in tests}) == 3
    assert first_turns(load_rows(prompts, "dev_prompts", 0)) != first_turns(load_rows(prompts, "dev_prompts", 1))


def test_spaces_capitals_and_what_follows_do_not_move_a_conversation_to_another_split():
    for number in range(50):
        first = {"role": "user", "content": f"Is it  {number}\nOclock"}
        same = {"role": "user", "content": f" is it {number} oclock "}
        system = {"role": "system", "content": "be kind"}
        split = split_of([first], 0)
        assert split_of([system, same, ASSISTANT, USER], 0) == split
        assert split_of(f"IS IT {number} OCLOCK", 0) == split


def test_limits_are_nested_and_drawn_by_the_seed(prompts):
    everything = [canonical(row) for row in load_rows(prompts, "prompts", 0)]
    for limit in (1, 10, 100):
        assert [canonical(row) for row in load_rows(prompts, "prompts", 0, limit)] == everything[:limit]
    other = [canonical(row) for row in load_rows(prompts, "prompts", 1)]
    both = set(everything) & set(other)
    assert [row for row in everything if row in both] != [row for row in other if row in both]


def test_the_order_in_the_file_does_not_matter(tmp_path):
    rows = [{"prompt": f"Question {number}?"} for number in range(60)]
    one = load_rows(written(tmp_path / "one.jsonl", rows), "prompts", 0, 20)
    other = load_rows(written(tmp_path / "other.jsonl", rows[::-1]), "prompts", 0, 20)
    assert fingerprint(one) == fingerprint(other)


def test_too_few_prompts_for_a_split_are_refused_in_words(tmp_path):
    path = written(tmp_path / "few.jsonl", [{"prompt": "a"}])
    kinds = {"train": "prompts", "dev": "dev_prompts", "test": "test_prompts"}
    kinds.pop(split_of("a", 0))
    for split, kind in kinds.items():
        with pytest.raises(
            DataError, match=rf"none of its 1 rows falls into the {split} split.*at least about 50 rows"
        ):
            load_rows(path, kind, 0)


def test_texts_without_a_prompt_are_all_trained_on(tmp_path):
    path = written(tmp_path / "texts.jsonl", [{"text": f"text {number}"} for number in range(40)])
    assert len(load_rows(path, "demonstrations", 0)) == 40


def test_a_fingerprint_is_of_content_and_order_not_of_place():
    one, other = Prompt("a", "x:1"), Prompt("b", "x:2")
    assert fingerprint([one, other]) == fingerprint([Prompt("a", "y:7"), other])
    assert fingerprint([one, other]) != fingerprint([other, one])
    assert canonical(Prompt([USER], "x")) == canonical(Prompt([{"content": "hi", "role": "user"}], "y"))
