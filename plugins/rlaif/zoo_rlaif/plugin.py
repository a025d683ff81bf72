"""Tells the zoo about learning from AI feedback."""

from zoo_core.hookspecs import hookimpl
from zoo_core.records import Algorithm


@hookimpl
def zoo_algorithms() -> list[Algorithm]:
    """Return RLAIF, which is a row by default, and its relatives, which users ask for by name."""
    return [
        Algorithm(
            name="rlaif",
            summary="RLAIF: a reward model fitted to a judge's preferences, then REINFORCE with a learned baseline",
            paper="2309.00267",
            config="zoo_rlaif.config:RLAIFConfig",
            train="zoo_rlaif.rlaif:train",
            learns_from=("prompts", "judge"),
            starts_from="sft",
        ),
        Algorithm(
            name="d-rlaif",
            summary="d-RLAIF: REINFORCE on a judge's ratings, without a reward model",
            paper="2309.00267",
            config="zoo_rlaif.config:DirectRLAIFConfig",
            train="zoo_rlaif.d_rlaif:train",
            learns_from=("prompts", "judge"),
            starts_from="sft",
            by_default=False,
        ),
        Algorithm(
            name="cai",
            summary="Constitutional AI: fine-tuning on revised answers, then PPO on a judge's preferences",
            paper="2212.08073",
            config="zoo_rlaif.cai_config:CAIConfig",
            train="zoo_rlaif.cai:train",
            learns_from=("prompts", "judge"),
            starts_from="sft",
            by_default=False,
        ),
    ]
