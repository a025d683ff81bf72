"""The checks that every algorithm must pass, on a model that takes milliseconds.

    class TestMine(AlgorithmSuite):
        name = "mine"
        settings = {"batch_size": 8}

`tiny_session` and its parts serve the plugin's own tests, too.
"""
# ruff: noqa: D102  # the name of a test is the sentence

import dataclasses
import math
from itertools import islice, pairwise
from pathlib import Path

import pytest

from zoo_core.datasets import feeds
from zoo_core.errors import PluginError
from zoo_core.run import Run
from zoo_core.session.seeds import seed_everything
from zoo_core.testing.learning import asked_for
from zoo_core.testing.saving_memory import MemorySuite
from zoo_core.testing.tiny import SIGNALS, LikesEarly, share_of_early, tiny_encoder
from zoo_core.testing.witness import Finished, repeatable, rotated, same_weights, weights, wide


class AlgorithmSuite(MemorySuite):
    """The checks of one algorithm. Subclass it with `name`, and with `settings` if the defaults are too slow."""

    def test_every_update_yields_finite_numbers_once(self, finished: Finished) -> None:
        history, ledger = finished.history, finished.session.ledger
        undone = sum("discarded" in flag for flag in ledger.flags)
        assert len(history) == ledger.updates + undone
        assert ledger.updates >= 2
        assert all(history)
        assert len({tuple(metrics) for metrics in history}) <= self.loops
        values = [(key, value) for metrics in history for key, value in metrics.items()]
        assert [(key, value) for key, value in values if type(value) is not float or not math.isfinite(value)] == []

    def test_training_changes_what_is_made_and_leaves_references_alone(self, finished: Finished) -> None:
        assert not same_weights(self.made(finished.session), finished.start)
        assert all(same_weights(model, start) for model, start in finished.references)

    def test_gradients_are_on_at_every_yield(self, finished: Finished) -> None:
        assert all(finished.gradients)

    def test_the_budget_is_kept_to_and_the_meter_tells_the_truth(self, finished: Finished) -> None:
        report, budget = finished.session.ledger.report(), finished.session.budget
        dearest = max(after - before for before, after in pairwise([0, *finished.spent]))
        assert report["flops"] <= budget
        assert budget - report["flops"] <= 1.1 * dearest, "one more update would have fitted"
        assert report["flops"] == sum(report["flops_by_role_phase"].values())
        assert "reference/train" not in report["flops_by_role_phase"], "score with references under torch.no_grad()"
        assert report["audit_ratio"] == pytest.approx(1.0, abs=0.02), "compute bypasses the meter"

    def test_the_same_seed_gives_the_same_numbers_and_weights_whatever_the_global_random_state(
        self, finished: Finished
    ) -> None:
        again = self.session(budget=finished.session.budget)
        seed_everything(0, "another program", "before")
        history = []
        for metrics in self.training(again):
            history.append(metrics)
            seed_everything(0, "another program", len(history))
        assert history == finished.history
        assert same_weights(self.made(again), weights(self.made(finished.session)))
        assert repeatable(again) == repeatable(finished.session)

    def test_auditing_every_update_changes_no_number(self, finished: Finished) -> None:
        audited = self.session(budget=finished.session.budget, audited=1.0)
        assert list(self.training(audited)) == finished.history, "it computes otherwise while it is audited"
        assert same_weights(self.made(audited), weights(self.made(finished.session)))
        assert audited.ledger.flops == finished.session.ledger.flops
        assert audited.ledger.report()["audit_ratio"] == pytest.approx(1.0, abs=0.02), "compute bypasses the meter"
        assert [flag for flag in audited.ledger.report()["flags"] if "audited" in flag or "unmetered" in flag] == []

    def test_another_seed_gives_other_numbers_and_weights(self, finished: Finished) -> None:
        other = self.session(budget=finished.session.budget, seed=1)
        assert list(self.training(other)) != finished.history
        assert not same_weights(self.made(other), weights(self.made(finished.session)))

    def test_a_run_killed_at_every_update_resumes_to_the_same_bits(self, finished: Finished, tmp_path: Path) -> None:
        history, budget = finished.history, finished.session.budget
        for seen in range(1, len(history) + 2):
            # The update seen last is lost: a checkpoint is taken when the next is asked for. So each run repeats the
            # one before its last and goes one further, until the last finds nothing left.
            resumed = self.session(budget=budget, directory=tmp_path)
            assert list(islice(self.training(resumed), 2 if seen > 1 else 1)) == history[max(0, seen - 2) : seen], (
                f"killed after {seen - 1} updates"
            )
        ended = self.session(budget=budget, directory=tmp_path)
        assert list(self.training(ended)) == [], "killed after the end"
        for session in (resumed, ended):
            assert same_weights(self.made(session), weights(self.made(finished.session)))
            assert repeatable(session) == repeatable(finished.session)

    def test_padding_before_prompts_changes_nothing_and_costs_nothing(self) -> None:
        plain, padded = self.session(), self.session(encoder=wide(tiny_encoder()))
        first, same = next(self.training(plain)), next(self.training(padded))
        assert padded.ledger.flops == plain.ledger.flops
        assert same == pytest.approx(first, rel=1e-4, abs=1e-5)

    def test_the_order_of_the_rows_in_a_batch_changes_no_gradient(self) -> None:
        if set(self.record.learns_from) & {"prompts", "reward", "judge"}:
            pytest.skip("what is sampled depends on the order of prompts")
        plain = self.first_step()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(feeds._Feed, "take", rotated(feeds._Feed.take))
            turned = self.first_step()
        assert turned.metrics == pytest.approx(plain.metrics, rel=10 * self.rounding, abs=self.rounding)
        self.assert_close(turned, plain)

    def test_it_learns_what_its_signals_ask_for(self, finished: Finished) -> None:
        budget = self.learns_for * finished.session.budget
        session = self.session(budget=budget, reward=share_of_early, judge=LikesEarly())
        before = asked_for(self.record, session, session.policy) if self.record.makes == "policy" else 0.0
        known = {field.name for field in dataclasses.fields(self.record.load_config())}
        for _ in self.training(session, others={k: v for k, v in self.learns_with.items() if k in known}):
            pass
        assert asked_for(self.record, session, self.made(session)) > before

    def test_it_learns_from_what_its_record_lists_and_from_nothing_else(self) -> None:
        session = self.session()
        run = Run(session)
        next(self.training(session, run))
        listed = set(self.record.learns_from)
        used = set(session.ledger.rows) | ({"judge"} if session.ledger.judge_calls else set())
        assert used <= listed
        if session.ledger.reward_queries:  # of the bench, or of a model made from a judge's verdicts
            assert listed & {"reward", "judge"}
        for signal in set(SIGNALS) - listed:
            with pytest.raises(PluginError, match=signal):
                run.reward([]) if signal == "reward" else getattr(run, signal)
