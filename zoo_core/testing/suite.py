"""The checks that every algorithm must pass, on a model that takes milliseconds.

    class TestMine(AlgorithmSuite):
        name = "mine"
        settings = {"batch_size": 8}

`tiny_session` and its parts serve the plugin's own tests, too.
"""
# ruff: noqa: D102  # the name of a test is the sentence

import math
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from zoo_core.compute import optimizer, precision
from zoo_core.compute.adamw_8bit import SMALLEST
from zoo_core.compute.micro_batches import save_memory
from zoo_core.errors import PluginError
from zoo_core.models.lora import add_adapter
from zoo_core.run import Run
from zoo_core.session.session import Session
from zoo_core.testing.listed import RecordSuite
from zoo_core.testing.tiny import SIGNALS, tiny_encoder, tiny_policy, tiny_session
from zoo_core.testing.witness import Finished, FirstStep, repeatable, same_weights, weights, wide


class AlgorithmSuite(RecordSuite):
    """The checks of one algorithm. Subclass it with `name`, and with `settings` if the defaults are too slow."""

    settings: ClassVar[dict[str, Any]] = {}
    updates: ClassVar[float] = 4.7
    """Budget of a run, in costs of its first update."""
    loops: ClassVar[int] = 1
    """Number of loops that follow each other in a run, each with its own metrics."""
    most_updates: ClassVar[int] = 12
    """A run that has not ended after so many updates is stopped, and the test fails."""
    adapts: ClassVar[bool] = True
    """Whether a policy can be trained by an adapter of the spec."""
    rounding: ClassVar[float] = 1e-5
    """How far gradients may lie from those of a batch divided otherwise, as a share of the largest."""

    def session(self, **settings: Any) -> Session:
        """Return a session with the signals that the record lists, and no others."""
        return tiny_session(self.record.learns_from, **settings)

    def training(self, session: Session, run: Run | None = None) -> Iterator[dict[str, float]]:
        """Return the training loop, not yet started."""
        config = self.record.load_config()(**self.settings)
        training: Iterator[dict[str, float]] = self.record.load_train()(config, run or Run(session))
        return training

    def made(self, session: Session) -> nn.Module:
        """Return the model that a run hands over."""
        model: nn.Module = session.kept[self.record.makes]
        return model

    @pytest.fixture(scope="class")
    @classmethod
    def finished(cls) -> Finished:
        """Return an undisturbed run, with all that was recorded of it; tests compare other runs with it."""
        references: list[tuple[PreTrainedModel, dict[str, Tensor]]] = []

        class Witness(Run):
            def reference(self) -> PreTrainedModel:
                model = super().reference()
                references.append((model, weights(model)))
                return model

        suite = cls()
        trial = suite.session()
        next(suite.training(trial))
        session = suite.session(budget=cls.updates * trial.ledger.flops)
        seen = Finished(session, references)
        for metrics in islice(suite.training(session, Witness(session)), cls.most_updates + 1):
            seen.history.append(metrics)
            seen.spent.append(session.ledger.flops)
            seen.gradients.append(torch.is_grad_enabled() and not torch.is_inference_mode_enabled())
            seen.start = seen.start or weights(suite.made(session))
        assert len(seen.history) <= cls.most_updates, f"not at the end after {cls.most_updates} updates"
        return seen

    def skip_unless_it_adapts(self) -> None:
        """Skip a test of adapters where there are none."""
        if self.record.makes != "policy":
            pytest.skip("it makes no policy: an adapter is its own setting, if it has one")
        if not self.adapts:
            pytest.skip("it trains no adapters of the spec")

    def first_step(self, *, adapted: bool = False) -> FirstStep:
        """Return a new run until its first step; one more update is made, because the audit ends with it."""
        found = FirstStep(self.session())
        if adapted:
            torch.manual_seed(0)
            add_adapter(found.session.policy, "policy", 2)

        class Witness(Run):
            def keep(self, name: str, thing: Any) -> Any:
                if isinstance(thing, torch.optim.Optimizer):
                    handle = thing.register_step_pre_hook(lambda *_: note(thing, handle))
                return super().keep(name, thing)

        def note(optimizer: torch.optim.Optimizer, handle: Any) -> None:
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            found.gradients += [weight.grad.clone() for weight in weights if weight.grad is not None]
            handle.remove()

        training = self.training(found.session, Witness(found.session))
        while not found.gradients:
            found.metrics = next(training)
        found.flops = found.session.ledger.report()["flops_by_role_phase"]
        next(training)
        return found

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

    def test_the_same_seed_gives_the_same_numbers_and_weights(self, finished: Finished) -> None:
        again = self.session(budget=finished.session.budget)
        assert list(self.training(again)) == finished.history
        assert same_weights(self.made(again), weights(self.made(finished.session)))
        assert repeatable(again) == repeatable(finished.session)

    def test_another_seed_gives_other_numbers_and_weights(self, finished: Finished) -> None:
        other = self.session(budget=finished.session.budget, seed=1)
        assert list(self.training(other)) != finished.history
        assert not same_weights(self.made(other), weights(self.made(finished.session)))

    def test_a_killed_run_resumes_to_the_same_bits(self, finished: Finished, tmp_path: Path) -> None:
        history, budget = finished.history, finished.session.budget
        for seen in range(1, len(history) + 2):
            directory = tmp_path / str(seen)
            killed = self.training(self.session(budget=budget, directory=directory))
            assert list(islice(killed, seen)) == history[:seen]
            del killed
            resumed = self.session(budget=budget, directory=directory)
            # The update seen last is lost: a checkpoint is taken when the next one is asked for. After the end none is.
            left = history[seen - 1 :] if seen <= len(history) else []
            assert list(self.training(resumed)) == left, f"killed after {seen} updates"
            assert same_weights(self.made(resumed), weights(self.made(finished.session))), (
                f"killed after {seen} updates"
            )
            assert repeatable(resumed) == repeatable(finished.session), f"killed after {seen} updates"

    def test_padding_before_prompts_changes_nothing_and_costs_nothing(self) -> None:
        plain, padded = self.session(), self.session(encoder=wide(tiny_encoder()))
        first, same = next(self.training(plain)), next(self.training(padded))
        assert padded.ledger.flops == plain.ledger.flops
        assert same == pytest.approx(first, rel=1e-4, abs=1e-5)

    def test_micro_batches_and_recomputation_change_no_loss_and_no_gradient(self) -> None:
        plain = self.first_step()
        for micro_batch, again in ((1, False), (25, True), (None, True)):  # each row alone, a few rows, all of them
            save_memory(micro_batch, gradient_checkpointing=again)
            try:
                divided = self.first_step()
            finally:
                save_memory()
            assert divided.metrics == pytest.approx(plain.metrics, rel=10 * self.rounding, abs=self.rounding), (
                micro_batch
            )
            for gradient, expected in zip(divided.gradients, plain.gradients, strict=True):
                most = self.rounding * expected.abs().max().item()
                torch.testing.assert_close(gradient, expected, rtol=self.rounding, atol=most)
            repeated = sum(flops for cell, flops in divided.flops.items() if cell.endswith("/recompute"))
            assert repeated > 0, micro_batch
            if micro_batch is None:  # prompts that rows share are read once in each micro-batch
                assert sum(divided.flops.values()) - repeated == sum(plain.flops.values())
            assert divided.session.ledger.report()["audit_ratio"] == pytest.approx(1.0, abs=0.02), micro_batch

    @pytest.mark.parametrize("adapted", [False, True], ids=["whole", "adapted"])
    def test_frozen_weights_in_bfloat16_change_no_number(self, adapted: bool) -> None:
        if adapted:
            self.skip_unless_it_adapts()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(precision, "_precision", "bf16")
            plain = self.first_step(adapted=adapted)
            patch.setattr(precision, "_weights", "bf16")
            halved = self.first_step(adapted=adapted)
        assert halved.metrics == plain.metrics
        assert {gradient.dtype for gradient in halved.gradients} == {torch.float32}
        assert all(map(torch.equal, halved.gradients, plain.gradients))
        most = (0.8 if adapted else 1.0) * plain.session.ledger.parameter_bytes
        assert halved.session.ledger.parameter_bytes <= most

    def test_it_trains_an_adapter_alone_and_resumes_it_to_the_same_bits(self, tmp_path: Path) -> None:
        self.skip_unless_it_adapts()

        def trained(folder: str, seen: int | None = None) -> Session:
            session = self.session(budget=budget, directory=tmp_path / folder)
            torch.manual_seed(0)
            add_adapter(session.policy, "policy", 2)
            for _ in islice(self.training(session), seen):
                pass
            return session

        trial = self.session()
        next(self.training(trial))
        budget = 1.6 * self.updates * trial.ledger.flops  # what is computed again is charged
        save_memory(100, gradient_checkpointing=True)
        try:
            whole = trained("whole")
            trained("killed", 2)
            resumed = trained("killed")
        finally:
            save_memory()
        start = tiny_policy().state_dict()
        state = whole.policy.state_dict()
        frozen = {name.replace(".base_layer.", "."): weight for name, weight in state.items() if ".lora_" not in name}
        assert all(torch.equal(frozen[name], weight) for name, weight in start.items())
        assert any(bool(weight.any()) for name, weight in state.items() if ".lora_B." in name)
        assert same_weights(resumed.policy, state)
        assert repeatable(resumed) == repeatable(whole)

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

    def test_moments_of_8_bits_are_smaller_and_resume_to_the_same_bits(self, tmp_path: Path) -> None:
        def trained(kind: optimizer.Kind, folder: str, seen: int | None = None) -> Session:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(optimizer, "_kind", kind)
                # Matrices of 4,096 numbers: smaller ones keep their moments in float32.
                policy = tiny_policy(hidden_size=64, intermediate_size=128)
                session = self.session(budget=budget, directory=tmp_path / folder, policy=policy)
                for _ in islice(self.training(session), seen):
                    pass
            return session

        trial = self.session(policy=tiny_policy(hidden_size=64, intermediate_size=128))
        next(self.training(trial))
        budget = self.updates * trial.ledger.flops
        plain, whole = trained("adamw", "plain"), trained("adamw-8bit", "whole")
        trained("adamw-8bit", "killed", 2)
        resumed = trained("adamw-8bit", "killed")
        assert whole.ledger.optimizer_steps == plain.ledger.optimizer_steps
        assert whole.ledger.flops == pytest.approx(plain.ledger.flops, rel=0.2)
        assert not same_weights(self.made(whole), weights(self.made(plain)))
        optimizers = [one for one in plain.kept.values() if isinstance(one, torch.optim.Optimizer)]
        trained_weights = [weight for one in optimizers for group in one.param_groups for weight in group["params"]]
        if max(weight.numel() for weight in trained_weights) >= SMALLEST:  # adapters of the algorithm's own are not
            assert whole.ledger.training_bytes < 0.8 * plain.ledger.training_bytes
        assert same_weights(self.made(resumed), weights(self.made(whole)))
        assert repeatable(resumed) == repeatable(whole)
