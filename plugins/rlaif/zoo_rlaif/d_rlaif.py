"""d-RLAIF, top to bottom: the judge's rating of each response is the reward, so no reward model can become outdated.

The loop is `reinforce` in reinforce.py, the formulas are in loss.py, the reward is `Rater` in labels.py.
"""

from collections.abc import Iterator

from zoo_core.calibration import standardised
from zoo_core.run import Run
from zoo_rlaif.config import DirectRLAIFConfig
from zoo_rlaif.constitution import Constitution
from zoo_rlaif.labels import Rater
from zoo_rlaif.reinforce import reinforce


def train(config: DirectRLAIFConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place; yield metrics once per update."""
    rater = Rater(run.judge, Constitution.load(config.constitution or run.judge.constitution, "rating"), run.seed)
    for metrics in reinforce(config, standardised(run, "reinforce", rater)):
        yield {**metrics, "abstained": rater.abstained}
