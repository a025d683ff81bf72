"""Tells the zoo about DPO and its relatives."""

from zoo_core.hookspecs import hookimpl
from zoo_core.records import Algorithm

DPO = "Direct Preference Optimization: a classification loss on pairs, no reward model, no sampling"
IPO = "IPO: pulls the margin of each pair to a target, so that labels without doubt do not drive it on"
CDPO = "Conservative DPO: takes a share of the labels to be wrong"
ROBUST = "Robust DPO: an unbiased estimate of DPO's loss from labels of which a share is flipped"


@hookimpl
def zoo_algorithms() -> list[Algorithm]:
    """Return DPO, and three losses that can take the place of its own."""
    return [
        _on_pairs("dpo", "2305.18290", "DPOConfig", "train", DPO, by_default=True),
        _on_pairs("ipo", "2310.12036", "IPOConfig", "train_ipo", IPO),
        _on_pairs("cdpo", "2403.00409", "ConservativeDPOConfig", "train_conservative", CDPO),
        _on_pairs("robust-dpo", "2403.00409", "RobustDPOConfig", "train_robust", ROBUST),
    ]


def _on_pairs(name: str, paper: str, config: str, train: str, summary: str, by_default: bool = False) -> Algorithm:
    return Algorithm(
        name=name,
        summary=summary,
        paper=paper,
        config=f"zoo_dpo.config:{config}",
        train=f"zoo_dpo.train:{train}",
        learns_from=("preferences",),
        starts_from="sft",
        by_default=by_default,
    )
