"""The job that measures a stage by its loss on rows that no run of its seed is given."""

import torch
from torch.nn.functional import logsigmoid

from zoo_core.errors import SpecError
from zoo_core.models.loading import load_policy
from zoo_core.reward import as_sample, checked
from zoo_core.rows import Preference
from zoo_harness.job import Job
from zoo_harness.jobs.materials import PAIRS_MEASURED, Materials, open_reward
from zoo_harness.jobs.objective import loss_on
from zoo_harness.payloads import HoldingOut
from zoo_harness.results import HeldOut

DEMONSTRATIONS_MEASURED = 512


def run(job: Job) -> HeldOut:
    """Measure the preference loss of a reward model, or the loss of a policy on demonstrations, in nats."""
    payload = HoldingOut.of(job.payload)
    materials = Materials.of(payload)
    if payload.reward_model is not None:
        pairs = materials.unseen_pairs(job.seed, PAIRS_MEASURED)
        loss, measured = _of_pairs(payload, pairs), len(pairs)
    else:
        rows = materials.unseen_demonstrations(job.seed, DEMONSTRATIONS_MEASURED)
        if not rows:
            raise SpecError("no demonstrations are left over to measure a start on; lower limits.demonstrations.")
        policy = load_policy(payload.start or materials.base).eval()
        loss, measured = loss_on(policy, materials.encoder, rows), len(rows)
    return {"identity": job.identity, "loss": loss, "rows": measured}


def _of_pairs(payload: HoldingOut, pairs: list[Preference]) -> float:
    """Mean of −log σ(r_w − r_l) over pairs."""
    if not pairs:
        raise SpecError("no pairs are left over to measure a reward model on; lower limits.preference_labels.")
    texts = [(pair, text) for pair in pairs for text in (pair.chosen, pair.rejected)]
    samples = [as_sample(pair.prompt, text, pair.columns) for pair, text in texts]
    scores = torch.tensor(checked(open_reward(payload.reward, payload.reward_model), samples), dtype=torch.float64)
    return float(-logsigmoid(scores[::2] - scores[1::2]).mean())
