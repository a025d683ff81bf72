"""Tells the zoo about GRPO and its relatives."""

from zoo_core.hookspecs import hookimpl
from zoo_core.records import Algorithm

GRPO = "Group Relative Policy Optimization: PPO whose critic is a group of responses"
DR_GRPO = "Dr. GRPO: GRPO without what weighs prompts and responses unevenly, and without a reference"
DAPO = "DAPO: GRPO with a raised clip, groups that have spread, a price of length, and without a reference"
GSPO = "GSPO: clips whole responses by their ratio per token"
CISPO = "CISPO: caps the weight of a token in place of clipping it"


@hookimpl
def zoo_algorithms() -> list[Algorithm]:
    """Return GRPO, and four algorithms that share its loop and have no reference."""
    return [
        _on_groups("grpo", "2402.03300", "config:GRPOConfig", "train", GRPO),
        _on_groups("dr-grpo", "2503.20783", "relatives:DrGRPOConfig", "train_dr_grpo", DR_GRPO),
        _on_groups("dapo", "2503.14476", "relatives:DAPOConfig", "train_dapo", DAPO),
        _on_groups("gspo", "2507.18071", "relatives:GSPOConfig", "train_gspo", GSPO),
        _on_groups("cispo", "2506.13585", "relatives:CISPOConfig", "train_cispo", CISPO),
    ]


def _on_groups(name: str, paper: str, config: str, train: str, summary: str) -> Algorithm:
    return Algorithm(
        name=name,
        summary=summary,
        paper=paper,
        config=f"zoo_grpo.{config}",
        train=f"zoo_grpo.train:{train}",
        learns_from=("prompts", "reward"),
        starts_from="sft",
        by_default=False,
    )
