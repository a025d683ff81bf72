"""Rewards see all columns of the row that a prompt came from; a row and whatever is made of it share them."""

import datetime
import pickle

import pytest
import torch

from zoo_core.datasets.parse import parse_rows
from zoo_core.datasets.splits import in_drawn_order
from zoo_core.errors import ColumnError, DataError, SpecError
from zoo_core.reward import Sample, as_sample, checked, pair_accuracy
from zoo_core.rows import Columns, Prompt, distinct, fingerprint
from zoo_core.run import Run
from zoo_core.testing.tiny import tiny_encoder, tiny_session

USER, YES, NO = (
    [{"role": role, "content": text}] for role, text in (("user", "hi"), ("assistant", "yes"), ("assistant", "no"))
)
OF_TEXTS = {
    "prompts": [{"prompt": "a"}, {"prompt": USER}],
    "demonstrations": [{"prompt": "a", "completion": "b"}, {"prompt": USER, "completion": YES}],
    "preferences": [
        {"prompt": "a", "chosen": "b", "rejected": "c"},
        {"prompt": USER, "chosen": YES, "rejected": NO},
    ],
}
"""Rows with no column but those that algorithms read."""
FINGERPRINTS = {
    "prompts": "83c19210bf722673388014b8275acf4a1d764288722d557ddd284ff001e616c9",
    "demonstrations": "1e1e882b31fd17bf573601eac414042050b4da87659eac17047189487dc0d951",
    "preferences": "a0a74b8b4b62192e6e1e85254d2afbcfa3efdaf7123be42d0229eaf340d4abcf",
}
"""Those of these rows before there were columns."""


def prompts(*rows):
    return parse_rows("x", "prompts", rows)


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        ("prompts", {"prompt": "a", "answer": "4"}),
        ("prompts", {"prompt": USER, "answer": "4"}),
        ("prompts", {"prompt": "a", "chosen": "b", "rejected": "c", "answer": "4"}),
        ("demonstrations", {"prompt": "a", "completion": "b", "answer": "4"}),
        ("demonstrations", {"messages": [*USER, *YES, *USER, *NO], "answer": "4"}),
        ("demonstrations", {"instruction": "a", "input": "b", "output": "c", "answer": "4"}),
        ("preferences", {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}),
        ("preferences", {"prompt": "hi", "chosen": [*USER, *YES], "rejected": [*USER, *NO], "score": 0.5}),
    ],
)
def test_every_row_has_its_columns_as_the_file_has_them(kind, row):
    for parsed in parse_rows("x", kind, [row]):
        assert dict(parsed.columns) == row
        assert parsed.columns.where == "x row 0"


def test_a_column_that_is_not_there_is_named_with_those_that_are():
    (row,) = prompts({"prompt": "a", "answr": "4"})
    with pytest.raises(ColumnError) as error:
        row.columns["answer"]
    assert str(error.value) == (
        "x row 0: a reward reads 'answer', which the row does not have. It has: prompt, answr. Did you mean 'answer'?"
    )
    assert row.columns.get("answer") is None
    assert "answer" not in row.columns
    with pytest.raises(ColumnError, match="It has: nothing"):
        Sample("a", "b", ended=True).row["answer"]


def test_the_error_of_a_reward_that_reads_such_a_column_is_that_of_the_column():
    (row,) = prompts({"prompt": "a"})
    with pytest.raises(ColumnError, match=r"x row 0: a reward reads 'answer'"):
        checked(correct, [as_sample(row.prompt, "b", row.columns)])


def test_columns_cannot_be_changed():
    with pytest.raises(TypeError):
        Columns({"answer": "4"})["answer"] = "5"  # type: ignore[index]


def test_all_samples_of_a_row_share_its_columns_in_a_pickle_too():
    rows = prompts({"prompt": "a", "answer": "4" * 1000}, {"prompt": "bc", "answer": "5"})
    run = Run(tiny_session(["prompts"], rows={"prompts": rows}))
    samples = run.sample(run.encode_prompts(rows).repeat(50)).samples
    assert all(sample.row is rows[number // 50].columns for number, sample in enumerate(samples))
    assert len(pickle.dumps(samples[:50])) < 4000
    again = pickle.loads(pickle.dumps(samples))
    assert again[0].row is again[49].row
    assert again == samples


def test_equal_texts_of_rows_with_other_answers_are_other_samples():
    one, other = (Sample("a", "b", ended=True, row=Columns({"answer": answer})) for answer in "45")
    assert one != other
    assert one == Sample("a", "b", ended=True, row=Columns({"answer": "4"}))
    assert len({one, other, Sample("a", "b", ended=True, row=Columns({"answer": "4"}))}) == 2


def test_choosing_and_repeating_prompts_takes_their_columns_along():
    rows = prompts(*({"prompt": text, "answer": text} for text in ("a", "bc", "def")))
    batch = tiny_encoder().prompts(rows)
    for some, expected in (
        (batch[torch.tensor([2, 0])], ["def", "a"]),
        (batch.repeat(2), ["a", "a", "bc", "bc", "def", "def"]),
        (batch.repeat(2)[torch.tensor([5, 1])], ["def", "a"]),
    ):
        assert [columns["answer"] for columns in some.columns or ()] == expected == list(some.texts)


def test_choosing_rows_of_a_rollout_takes_the_rows_of_its_samples_along():
    rows = prompts(*({"prompt": [{"role": "user", "content": text}], "answer": text} for text in ("a", "bc", "def")))
    run = Run(tiny_session(["prompts"], rows={"prompts": rows}))
    rollout = run.sample(run.prompts.batch(0, 6))
    for sample in (*rollout.samples, *rollout[torch.tensor([4, 1])].samples):
        assert sample.row["answer"] == sample.prompt[0]["content"]


def test_prompts_that_are_typed_have_no_columns():
    run = Run(tiny_session(["prompts"]))
    assert [dict(sample.row) for sample in run.sample(run.encode_prompts(["a", USER])).samples] == [{}, {}]


def correct(samples):
    return [float(sample.row["answer"] in sample.response) for sample in samples]


def test_pairs_are_scored_with_their_rows():
    rows = [
        {"prompt": "1 + 1", "chosen": "it is 2", "rejected": "it is 3", "answer": "2"},
        {"prompt": "1 + 2", "chosen": "it is 2", "rejected": "it is 3", "answer": "3"},
        {"prompt": "1 + 3", "chosen": "it is 4", "rejected": "it is 3", "answer": "4"},
    ]
    assert pair_accuracy(correct, parse_rows("x", "preferences", rows)) == pytest.approx(2 / 3)  # type: ignore[arg-type]


# A prompt that is scored once, and several rows


def test_a_prompt_of_several_rows_has_the_columns_in_which_they_agree():
    same, other, again = {"prompt": "a", "answer": "4", "id": 1}, {"prompt": "b", "answer": "5"}, {"prompt": "a"}
    first, second = distinct(prompts(same, other, {**same, "id": 2}))
    assert (first.prompt, first.where, second.prompt) == ("a", "x row 0", "b")
    assert dict(first.columns) == {"prompt": "a", "answer": "4"}
    assert dict(second.columns) == other
    (first,) = distinct(prompts(same, again))
    assert dict(first.columns) == again


@pytest.mark.parametrize("read", [lambda row: row["answer"], lambda row: row.get("answer")])
def test_a_column_in_which_they_differ_cannot_be_read_and_both_rows_are_named(read):
    (one,) = distinct(prompts({"prompt": "a", "answer": "4"}, {"prompt": "a", "answer": "5"}, {"prompt": "a"}))
    with pytest.raises(DataError, match=r"x row 0 and x row 1 have the same prompt and differ in 'answer'.* keep one"):
        read(one.columns)
    assert "answer" in one.columns
    (two,) = distinct(prompts({"prompt": "a"}, {"prompt": "a", "answer": "5"}))
    with pytest.raises(DataError, match=r"differ in 'answer'"):
        read(two.columns)


# Identity


@pytest.mark.parametrize("kind", OF_TEXTS)
def test_rows_of_texts_alone_keep_the_fingerprint_that_they_had_before_columns(kind):
    assert fingerprint(parse_rows("x", kind, OF_TEXTS[kind])) == FINGERPRINTS[kind]


@pytest.mark.parametrize("kind", OF_TEXTS)
def test_a_changed_column_changes_the_fingerprint(kind):
    found = {
        fingerprint(parse_rows("x", kind, [{**row, **more} for row in OF_TEXTS[kind]]))
        for more in ({}, {"answer": "4"}, {"answer": "5"}, {"answer": 4}, {"reply": "4"}, {"answer": "\ud800"})
    }
    assert len(found) == 6


def test_what_a_prompt_is_read_beside_counts_since_a_reward_may_read_it():
    one, other = ({"prompt": "a", "chosen": answer, "rejected": "c"} for answer in ("b", "d"))
    assert fingerprint(prompts(one)) != fingerprint(prompts(other))


def test_a_value_that_json_does_not_have_counts_by_what_it_is_and_not_by_where_it_lies():
    class Image:
        pass

    def of(*values):
        return fingerprint(prompts(*({"prompt": "a", "value": value} for value in values)))

    assert of(Image(), datetime.date(2024, 1, 1)) == of(Image(), datetime.date(2024, 1, 1))
    assert of(datetime.date(2024, 1, 1)) != of(datetime.date(2024, 1, 2))


def test_columns_do_not_move_the_order_that_a_seed_draws():
    texts = [f"prompt {number}" for number in range(20)]
    plain = prompts(*({"prompt": text} for text in texts))
    beside = prompts(*({"prompt": text, "answer": number} for number, text in enumerate(texts)))
    assert in_drawn_order(plain, 3) == in_drawn_order(beside, 3) != plain


def test_a_row_made_by_hand_equals_one_that_was_read():
    assert prompts({"prompt": "a", "answer": "4"}) == [Prompt("a", "x row 0")]


def test_a_reward_that_fails_over_a_null_is_named_with_its_line():
    (row,) = prompts({"prompt": "a", "answer": None})
    with pytest.raises(SpecError, match=r"the reward .*correct raised TypeError: .*test_columns\.py:"):
        checked(correct, [as_sample(row.prompt, "b", row.columns)])
