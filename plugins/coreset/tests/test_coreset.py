"""Fine-tuning on a core set passes the suite, selects what it says, charges for it and stops by its rule."""

import json

import pytest
import torch
from zoo_coreset.config import CoresetConfig
from zoo_coreset.selection import covering_radius
from zoo_coreset.train import embeddings, select_coreset, train

from zoo_core.functional import masked_mean
from zoo_core.registry.plugins import plugins
from zoo_core.rollout import response_logprobs
from zoo_core.rows import Demonstration
from zoo_core.run import Run
from zoo_core.testing.suite import AlgorithmSuite
from zoo_core.testing.tiny import tiny_rows, tiny_run, tiny_session

SMALL = CoresetConfig(at_least=8, regions=3, batch_size=4)


class TestCoreset(AlgorithmSuite):
    name = "coreset"
    settings = {"at_least": 12, "regions": 3, "batch_size": 8, "epochs": 10.0}


def said(prompt, answer, where):
    return Demonstration([{"role": "user", "content": prompt}], [{"role": "assistant", "content": answer}], where)


def at_random(config, run, total):
    return run.demonstrations.drawn(total, run.rng(0, "random rows"))


def test_the_run_ends_by_its_rule_with_money_left_and_nothing_to_flag():
    assert plugins().algorithm("coreset").stops_early
    session = tiny_session(["demonstrations"])
    # 8 of 24 rows, 4 at a time, are 2 updates a pass.
    history = list(train(CoresetConfig(at_least=8, regions=3, batch_size=4, epochs=3.0), Run(session)))
    assert [metrics["passes"] for metrics in history] == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert session.ledger.flops < session.budget / 100
    assert session.ledger.flags == []


@pytest.mark.parametrize(
    ("share", "at_least", "expected"),
    [(0.5, 1, 12), (0.1, 1, 2), (0.005, 1, 1), (0.005, 7, 7), (1.0, 1, 24), (0.1, 99, 24)],
)
@pytest.mark.parametrize("selection", ["coreset", "random"])
def test_the_share_is_selected_and_not_less_than_at_least(share, at_least, expected, selection):
    session = tiny_session(["demonstrations"])
    config = CoresetConfig(share=share, at_least=at_least, selection=selection, batch_size=24, epochs=1.0)
    (metrics,) = train(config, Run(session))
    assert metrics["passes"] == 24 / expected


def test_selected_rows_are_saved_with_the_reason_each_was_chosen(tmp_path):
    session = tiny_session(["demonstrations"], directory=tmp_path)
    rows = select_coreset(SMALL, Run(session), 8)
    saved = [json.loads(line) for line in (tmp_path / "selected.jsonl").read_text().splitlines()]
    assert [row["where"] for row in saved] == [row.where for row in rows]
    assert [row["completion"] for row in saved] == [row.completion for row in rows]
    assert len({row["where"] for row in saved}) == 8
    centres = [row["reason"] for row in saved if "the nearest to its centre" in row["reason"]]
    others = [row["reason"] for row in saved if "the farthest of all" in row["reason"]]
    assert len({reason.partition(" (")[0] for reason in centres}) == len(centres) <= 3
    assert len(centres) + len(others) == 8
    assert all(reason.startswith("region ") for reason in centres + others)


def test_selection_is_the_same_for_the_same_seed_and_another_for_another():
    def chosen(seed, select):
        return [row.where for row in select(SMALL, tiny_run(signals=["demonstrations"], seed=seed), 8)]

    for select in (select_coreset, at_random):
        assert chosen(0, select) == chosen(0, select)
        assert len({tuple(chosen(seed, select)) for seed in range(4)}) > 1


def test_embeddings_and_distances_are_charged_before_the_loop_and_a_random_selection_costs_nothing():
    session = tiny_session(["demonstrations"])
    select_coreset(SMALL, Run(session), 8)
    report = session.ledger.report()
    assert set(report["flops_by_role_phase"]) == {"policy/prepare", "selection/prepare"}
    # 24 rows in width 32: greedy picking of 8 computes at most 24 · 8 distances of 3 · 32 operations, k-means at least
    # 24 · 3 in each of 3 steps.
    assert 3 * 32 * 24 * 3 * 3 < report["declared"] < 3 * 32 * 24 * (8 + 3 * 12)
    assert len(report["rows"]["demonstrations"]) == 24
    control = tiny_session(["demonstrations"])
    at_random(SMALL, Run(control), 8)
    assert (control.ledger.flops, control.ledger.report()["rows"]) == (0, {})


def test_the_control_counts_no_rows_but_its_own_as_used():
    session = tiny_session(["demonstrations"])
    list(train(CoresetConfig(selection="random", at_least=8, batch_size=8, epochs=2.0), Run(session)))
    assert len(session.ledger.rows["demonstrations"]) == 8


def test_rows_that_say_the_same_are_selected_once():
    rows = tiny_rows(["demonstrations"])["demonstrations"][:4]
    copies = [Demonstration(row.prompt, row.completion, f"copy of {row.where}") for row in rows]
    run = tiny_run(signals=["demonstrations"], rows={"demonstrations": rows + copies})
    assert {row.where for row in select_coreset(SMALL, run, 8)} == {row.where for row in rows}


def test_embeddings_do_not_depend_on_what_else_is_in_the_batch():
    run = tiny_run(signals=["demonstrations"])
    rows = run.demonstrations.all()
    whole = embeddings(run, rows, 24)
    assert torch.allclose(embeddings(run, rows, 5), whole, atol=1e-6)
    assert torch.allclose(whole.norm(dim=1), torch.ones(24))
    assert not any(parameter.grad is not None for parameter in run.policy.parameters())


def test_a_core_set_covers_the_pool_better_than_the_control():
    def radius(select):
        run = tiny_run(signals=["demonstrations"])
        rows = run.demonstrations.all()
        picks = [rows.index(row) for row in select(SMALL, run, 8)]
        return covering_radius(embeddings(run, rows, 24), picks)

    assert radius(select_coreset) < radius(at_random)


def test_a_rare_task_is_learnt_from_a_core_set_and_missed_by_as_many_random_rows():
    # 100 rows ask for as, 2 ask for zs: 8 rows at random hold none of these in 85 % of the draws, as in this one.
    common = [said(f"say {chr(98 + n % 10)}{chr(98 + n // 10)}", "a" * (1 + n % 3), f"common {n}") for n in range(100)]
    rare = [said(f"zz!? {letter}", "zzz!", f"rare {letter}") for letter in "bc"]
    unseen = [(said(f"zz!? {letter}", "zzz!", "unseen")) for letter in "def"]

    def loss(selection):
        session = tiny_session(["demonstrations"], rows={"demonstrations": common + rare})
        config = CoresetConfig(
            selection=selection, at_least=8, regions=4, batch_size=8, learning_rate=1e-2, epochs=20.0
        )
        list(train(config, Run(session)))
        batch = session.encoder.responses([(row.prompt, row.completion) for row in unseen])
        with torch.no_grad():
            return -masked_mean(response_logprobs(session.policy, batch), batch.mask).item()

    assert loss("coreset") < 1.0
    assert loss("random") > 2.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"selection": "best"}, "selection='best' must be one of coreset, random"),
        ({"share": 0.0}, "share=0.0 must be above 0"),
        ({"share": 1.5}, "share=1.5 must be above 0 and at most 1"),
        ({"regions": 0}, "regions=0 must be 1 or more"),
        ({"at_least": 0}, "at_least=0 must be 1 or more"),
        ({"batch_size": 0}, "batch_size=0 must be 1 or more"),
        ({"epochs": 0.0}, "epochs=0.0 must be above 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        CoresetConfig(**settings)
