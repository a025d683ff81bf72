"""What is in a batch depends on seed, stage and update, and on nothing else."""

from collections import Counter

import pytest
import torch

from zoo_core.accounting.ledger import Ledger
from zoo_core.datasets.feeds import DemonstrationFeed, PreferenceFeed, PromptFeed
from zoo_core.errors import PluginError
from zoo_core.run import Run
from zoo_core.testing.tiny import tiny_encoder, tiny_rows, tiny_run, tiny_session

ROWS = tiny_rows(count=10)
ENCODER = tiny_encoder()


def feed(kind="prompts", seed=0):
    make = {"prompts": PromptFeed, "demonstrations": DemonstrationFeed, "preferences": PreferenceFeed}[kind]
    return make(ROWS[kind], ENCODER, Ledger(), kind, seed)


def wheres(rows):
    return [row.where for row in rows]


@pytest.mark.parametrize("size", [1, 3, 5, 10, 13])
def test_every_pass_visits_each_row_once_whatever_the_batch_size(size):
    one = feed()
    drawn = [where for update in range(40) for where in wheres(one.take(update, size))]
    for start in range(0, len(drawn) - 9, 10):
        assert Counter(drawn[start : start + 10]) == Counter(wheres(ROWS["prompts"]))


def test_passes_differ_in_order():
    one = feed()
    orders = {tuple(wheres(one.take(epoch, 10))) for epoch in range(5)}
    assert len(orders) == 5


def test_a_batch_can_be_drawn_in_any_order_and_again():
    one, other = feed(), feed()
    forward = [wheres(one.take(update, 4)) for update in range(6)]
    assert [wheres(other.take(update, 4)) for update in reversed(range(6))] == forward[::-1]
    assert wheres(one.take(2, 4)) == forward[2]


def test_another_seed_or_stage_draws_another_order():
    def drawn(seed, stage):
        run = tiny_run(seed=seed)
        return tuple(wheres((run.stage(stage) if stage else run).prompts.take(0, 12)))

    assert drawn(0, "") == drawn(0, "")
    assert len({drawn(0, ""), drawn(1, ""), drawn(0, "rl"), drawn(0, "sft")}) == 4


def test_what_happened_before_does_not_move_the_batch():
    run, other = tiny_run(), tiny_run()
    torch.rand(7)
    list(run.updates(2))
    run.preferences.batch(0, 4)
    assert wheres(run.prompts.take(3, 4)) == wheres(other.prompts.take(3, 4))


def test_rows_drawn_at_random_are_distinct_and_none_is_in_the_ledger_before_it_is_used():
    one = feed()

    def drawn(count, seed):
        return wheres(one.drawn(count, torch.Generator().manual_seed(seed)))

    assert drawn(4, 0) == drawn(4, 0)
    assert len({tuple(drawn(4, seed)) for seed in range(5)}) == 5
    assert sorted(drawn(99, 0)) == sorted(wheres(ROWS["prompts"]))
    assert [len(set(drawn(count, 0))) for count in (0, 1, 10)] == [0, 1, 10]
    assert one.ledger.rows == {}


def test_an_epoch_counts_the_updates_of_one_pass():
    assert [feed().epoch(size) for size in (1, 3, 5, 10, 11)] == [10, 4, 2, 1, 1]
    assert len(feed()) == 10


def test_rows_that_were_drawn_are_in_the_ledger_once():
    one = feed("preferences")
    one.batch(0, 10)
    one.batch(1, 10)
    assert one.ledger.rows == {"preferences": set(wheres(ROWS["preferences"]))}


def test_a_batch_holds_the_rows_that_were_drawn():
    texts = [row.prompt for row in feed().take(4, 3)]
    assert list(feed().batch(4, 3).texts) == texts
    pairs = feed("preferences").batch(4, 3)
    drawn = feed("preferences").take(4, 3)
    for row, chosen, rejected in zip(drawn, *pairs.responses.chunk(2), strict=True):
        assert ENCODER.decode(chosen.tolist()) == row.chosen[0]["content"]
        assert ENCODER.decode(rejected.tolist()) == row.rejected[0]["content"]
    demonstrations = feed("demonstrations").batch(4, 3)
    drawn = feed("demonstrations").take(4, 3)
    said = [ENCODER.decode(one.tolist()) for one in demonstrations.responses]
    assert said == [row.completion[0]["content"] for row in drawn]


def test_rows_of_another_kind_are_refused_and_not_left_out():
    rows = {"preferences": tiny_rows(["preferences"])["preferences"] + tiny_rows(["prompts"])["prompts"][:1]}
    with pytest.raises(PluginError, match="preferences: prompt 0 is a Prompt, not a Preference"):
        Run(tiny_session(["preferences"], rows=rows))
