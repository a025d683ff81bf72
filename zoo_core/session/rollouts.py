"""What a rollout engine must charge: all that its sampling computes, wherever that is."""

from zoo_core.accounting.audit import RUNNING
from zoo_core.compute.packing import packs
from zoo_core.compute.processes import is_main_process
from zoo_core.compute.sampler import sample_cached
from zoo_core.compute.sampling_cost import sampling_cost
from zoo_core.compute.sharding import is_sharded
from zoo_core.rollout import Prompts, Rollout
from zoo_core.session.session import Session


def charge_sampling(session: Session, rollout: Rollout, prompts: Prompts, charged: int) -> None:
    """Declare the cost of sampling that the policy's layers did not see; flag an engine that hides its own.

    An engine says by `samples_elsewhere` that the layers do not see it; then it costs what the built-in sampler would
    have cost for responses of these lengths. Of any other engine `charged`, the FLOPs that layers charged for this
    rollout, is compared with that cost in updates that are audited. Half of it is enough, because an engine may share
    more between rows than the built-in sampler does.
    """
    policy, limit, counts = session.policy, session.encoder.response_tokens, rollout.mask.sum(1).tolist()
    if getattr(session.engine, "samples_elsewhere", False):
        cost = sampling_cost(policy, prompts, counts, limit)
        if is_main_process():
            session.ledger.declare("policy", cost)
    elif RUNNING.counters and session.engine is not sample_cached:
        known = packs(policy) and not is_sharded(policy)
        if charged < (sampling_cost(policy, prompts, counts, limit) // 2 if known else 1):
            session.ledger.flag("the rollout engine charged less than half of what its sampling costs")
