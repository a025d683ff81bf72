"""The runs that the checks of an algorithm look at, on a model that takes milliseconds."""

from collections.abc import Iterator, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from zoo_core.models.lora import add_adapter
from zoo_core.run import Run
from zoo_core.session.session import Session
from zoo_core.testing.listed import RecordSuite
from zoo_core.testing.tiny import tiny_session
from zoo_core.testing.witness import Finished, FirstStep, weights


class TinyRuns(RecordSuite):
    """How the suite runs one algorithm."""

    settings: ClassVar[dict[str, Any]] = {}
    updates: ClassVar[float] = 4.7
    """Budget of a run, in costs of its first update."""
    loops: ClassVar[int] = 1
    """Number of loops that follow each other in a run, each with its own metrics."""
    learns_for: ClassVar[float] = 2.0
    """Budget of the run that must learn, in budgets of a run."""
    learns_with: ClassVar[dict[str, Any]] = {"learning_rate": 3e-2}
    """Settings of the run that must learn besides `settings`: so small a model takes large steps."""
    most_updates: ClassVar[int] = 12
    """A run that has not ended after so many updates is stopped, and the test fails."""
    adapts: ClassVar[bool] = True
    """Whether a policy can be trained by an adapter of the spec."""
    rounding: ClassVar[float] = 1e-5
    """How far gradients may lie from those of a batch divided otherwise, as a share of the largest."""

    def session(self, **settings: Any) -> Session:
        """Return a session with the signals that the record lists, and no others."""
        return tiny_session(self.record.learns_from, **settings)

    def training(
        self, session: Session, run: Run | None = None, others: Mapping[str, Any] = MappingProxyType({})
    ) -> Iterator[dict[str, float]]:
        """Return the training loop, not yet started; `others` are settings besides those of the suite."""
        config = self.record.load_config()(**{**self.settings, **others})
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

    def first_step(self, *, adapted: bool = False) -> FirstStep:
        """Return a new run until its first step; one more update is made, because the audit ends with it."""
        found = FirstStep(self.session())
        if adapted:
            torch.manual_seed(0)
            for weight in found.session.policy.parameters():  # a critic starts from them, however they are kept
                weight.data = weight.data.bfloat16().float()
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

    def assert_close(self, one: FirstStep, other: FirstStep) -> None:
        """Fail unless the gradients of two first steps agree up to rounding."""
        for gradient, expected in zip(one.gradients, other.gradients, strict=True):
            most = self.rounding * expected.abs().max().item()
            torch.testing.assert_close(gradient, expected, rtol=self.rounding, atol=most)
