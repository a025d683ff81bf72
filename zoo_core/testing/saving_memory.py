"""The checks of an algorithm under what saves memory: micro-batches, recomputation, adapters, smaller numbers."""
# ruff: noqa: D102  # the name of a test is the sentence

from itertools import islice
from pathlib import Path

import pytest
import torch

from zoo_core.compute import optimizer, precision
from zoo_core.compute.adamw_8bit import SMALLEST
from zoo_core.compute.micro_batches import save_memory
from zoo_core.models.lora import add_adapter
from zoo_core.session.session import Session
from zoo_core.testing.runs import TinyRuns
from zoo_core.testing.tiny import tiny_policy
from zoo_core.testing.witness import repeatable, same_weights, weights


class MemorySuite(TinyRuns):
    """The part of the suite of an algorithm that trains it with less memory."""

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
            self.assert_close(divided, plain)
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

    def test_with_all_that_saves_memory_it_trains_an_adapter_alone_and_resumes_it_to_the_same_bits(
        self, tmp_path: Path
    ) -> None:
        self.skip_unless_it_adapts()
        start = tiny_policy(hidden_size=64, intermediate_size=128).state_dict()

        def session(budget: float = 1e12, folder: str | None = None) -> Session:
            policy = tiny_policy(hidden_size=64, intermediate_size=128)
            return self.session(budget=budget, directory=tmp_path / folder if folder else None, policy=policy)

        def trained(folder: str, seen: int | None = None) -> Session:
            found = session(budget, folder)
            torch.manual_seed(0)
            add_adapter(found.policy, "policy", 64)  # 4,096 numbers: moments of smaller matrices are not rounded
            precision.keep_frozen(found.policy)
            for _ in islice(self.training(found), seen):
                pass
            return found

        trial = session()
        next(self.training(trial))
        budget = 2.2 * self.updates * trial.ledger.flops  # what is computed again is charged
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(precision, "_precision", "bf16")
            patch.setattr(precision, "_weights", "bf16")
            patch.setattr(optimizer, "_kind", "adamw-8bit")
            save_memory(100, gradient_checkpointing=True)
            try:
                whole = trained("whole")
                trained("killed", 2)
                resumed = trained("killed")
            finally:
                save_memory()
        state = whole.policy.state_dict()
        frozen = {name.replace(".base_layer.", "."): weight for name, weight in state.items() if ".lora_" not in name}
        assert all(torch.equal(frozen[name], weight.to(frozen[name].dtype)) for name, weight in start.items())
        assert torch.bfloat16 in {weight.dtype for weight in frozen.values()}
        assert any(bool(weight.any()) for name, weight in state.items() if ".lora_B." in name)
        assert same_weights(resumed.policy, state)
        assert repeatable(resumed) == repeatable(whole)

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

    def skip_unless_it_adapts(self) -> None:
        """Skip a test of adapters where there are none."""
        if self.record.makes != "policy":
            pytest.skip("it makes no policy: an adapter is its own setting, if it has one")
        if not self.adapts:
            pytest.skip("it trains no adapters of the spec")
