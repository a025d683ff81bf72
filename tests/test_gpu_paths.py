"""What GPUs compute by, on the CPU: the laws of an algorithm hold for rows at once and the fixed sampler, too."""

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from zoo_core.compute import fixed_sampler, graphs, packing, precision, row_attention, sampler
from zoo_core.compute.precision import Precision
from zoo_core.testing.suite import AlgorithmSuite


class OnGPUs(AlgorithmSuite):
    """The suite of an algorithm, in a precision, by the paths of GPUs."""

    kept: ClassVar[Precision] = "fp32"

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def paths(cls) -> Iterator[None]:
        """Take the paths of GPUs, and look for rows that have ended after every fourth token."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(packing, "AT_ONCE", {"cpu"})
            patch.setattr(row_attention, "attention_over_rows", lambda *_: None)  # its operators are of GPUs only
            patch.setattr(sampler, "FIXED", {"cpu"})
            patch.setattr(graphs, "RECORDS", set())
            patch.setattr(fixed_sampler, "LOOKS", 4)
            patch.setattr(precision, "_precision", cls.kept)
            yield


def of(algorithm: str, kept: Precision, **settings: Any) -> type[OnGPUs]:
    """Return the suite of an algorithm."""
    rounding = 1e-5 if kept == "fp32" else 1e-2  # a number of bfloat16 is within 2^-9 = 0.2 % of the exact one
    suite = {"name": algorithm, "kept": kept, "rounding": rounding, "settings": settings}
    return type(f"Test{algorithm}", (OnGPUs,), suite)


TestSFT = of("sft", "fp32", batch_size=6)
TestDPOHalf = of("dpo", "bf16", batch_size=4)
TestGRPO = of("grpo", "fp32", batch_size=8, group_size=4, minibatch_size=8)
TestGRPOHalf = of("grpo", "bf16", batch_size=8, group_size=4, minibatch_size=8)
TestPPO = of("ppo", "fp32", batch_size=8, minibatch_size=4, epochs=2)
TestPPOHalf = of("ppo", "bf16", batch_size=8, minibatch_size=4, epochs=2)
