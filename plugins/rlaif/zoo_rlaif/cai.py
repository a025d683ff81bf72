"""Constitutional AI, top to bottom: learn from revised answers, then from the judge's preferences.

The loops of the first phase are in revision.py, those up to the reward model, which RLAIF shares, in feedback.py.
The last loop is zoo-ppo's.
"""

from collections.abc import Iterator

from zoo_ppo.config import PPOConfig
from zoo_ppo.train import train as ppo

from zoo_core.calibration import standardised
from zoo_core.run import Run
from zoo_rlaif.cai_config import CAIConfig
from zoo_rlaif.constitution import Constitution
from zoo_rlaif.feedback import Pair, blank_scorer, fit_reward_model, label_pairs
from zoo_rlaif.revision import Revision, revise, tune


def train(config: CAIConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place; yield metrics once per update."""
    constitution = Constitution.load(config.constitution or run.judge.constitution, "revision", "comparison")

    # Phase 1. Answers are criticised and revised; the policy learns to give the revised ones.
    revisions: list[Revision] = run.keep("revisions", [])
    yield from revise(config, run.stage("revise", config.revise_share), constitution, revisions)
    run.write_rows("revisions", revisions)
    yield from tune(config, run.stage("tune", config.tuning_share), revisions)

    # Phase 2. The judge says which of two answers of that policy is better, and a reward model learns it.
    pairs: list[Pair] = run.keep("pairs", [])
    yield from label_pairs(config, run.stage("label", config.label_share), constitution, pairs)
    run.write_rows("ai-preferences", pairs)
    scorer = run.keep("reward", blank_scorer(run))
    yield from fit_reward_model(config, run.stage("fit", config.reward_share), scorer, pairs)

    # PPO climbs it; reference and units of the reward are those of the fine-tuned policy.
    settings = PPOConfig(
        batch_size=config.batch_size,
        minibatch_size=config.batch_size // 2,
        temperature=config.temperature,
        learning_rate=config.learning_rate,
        kl_coefficient=config.kl_coefficient,
        max_grad_norm=config.max_grad_norm,
    )
    yield from ppo(settings, standardised(run, "ppo", run.scorer(scorer)))
