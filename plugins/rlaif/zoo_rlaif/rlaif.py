"""RLAIF, top to bottom: a judge labels pairs, a reward model learns from the labels, the policy from the reward model.

Each stage is a loop of its own: `label_pairs` and `fit_reward_model` are in feedback.py, `reinforce` in reinforce.py,
the formulas in loss.py.
"""

from collections.abc import Iterator

from zoo_core.calibration import standardised
from zoo_core.run import Run
from zoo_rlaif.config import RLAIFConfig
from zoo_rlaif.constitution import Constitution
from zoo_rlaif.feedback import Pair, blank_scorer, fit_reward_model, label_pairs
from zoo_rlaif.reinforce import reinforce


def train(config: RLAIFConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place; yield metrics once per update."""
    constitution = Constitution.load(config.constitution or run.judge.constitution, "comparison")

    # 1. The judge says which of two answers is better.
    pairs: list[Pair] = run.keep("pairs", [])
    yield from label_pairs(config, run.stage("label", config.label_share), constitution, pairs)
    run.write_rows("ai-preferences", pairs)

    # 2. A reward model learns it.
    scorer = run.keep("reward", blank_scorer(run))
    yield from fit_reward_model(config, run.stage("fit", config.reward_share), scorer, pairs)

    # 3. The policy climbs it, in units of its deviation on the start's samples.
    yield from reinforce(config, standardised(run, "reinforce", run.scorer(scorer)))
