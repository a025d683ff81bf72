"""Tells the zoo about DPO and its relatives."""

from zoo_core.hookspecs import hookimpl
from zoo_core.records import Algorithm

DPO = "Direct Preference Optimization: a classification loss on pairs, no reward model, no sampling"
IPO = "IPO: pulls the margin of each pair to a target, so that labels without doubt do not drive it on"
CDPO = "Conservative DPO: takes a share of the labels to be wrong"
ROBUST = "Robust DPO: an unbiased estimate of DPO's loss from labels of which a share is flipped"
NLL = "DPO with imitation of the chosen answers, which DPO alone may make less likely"
NORM = "DPO per token: a long answer has no larger margin for its length alone"
POSITIVE = "DPO-Positive: a margin that shrinks where a chosen answer became less likely"


@hookimpl
def zoo_algorithms() -> list[Algorithm]:
    """Return DPO, and six losses that can take the place of its own."""
    return [
        _on_pairs("dpo", "2305.18290", "config:DPOConfig", "train", DPO, by_default=True),
        _on_pairs("ipo", "2310.12036", "relatives:IPOConfig", "train_ipo", IPO),
        _on_pairs("cdpo", "2403.00409", "relatives:ConservativeDPOConfig", "train_conservative", CDPO),
        _on_pairs("robust-dpo", "2403.00409", "relatives:RobustDPOConfig", "train_robust", ROBUST),
        _on_pairs("dpo-nll", "2404.19733", "relatives:DPONLLConfig", "train_nll", NLL),
        _on_pairs("dpo-norm", "2411.15124", "relatives:DPONormConfig", "train_norm", NORM),
        _on_pairs("dpop", "2402.13228", "relatives:DPOPositiveConfig", "train_positive", POSITIVE),
    ]


def _on_pairs(name: str, paper: str, config: str, train: str, summary: str, by_default: bool = False) -> Algorithm:
    return Algorithm(
        name=name,
        summary=summary,
        paper=paper,
        config=f"zoo_dpo.{config}",
        train=f"zoo_dpo.train:{train}",
        learns_from=("preferences",),
        starts_from="sft",
        by_default=by_default,
    )
