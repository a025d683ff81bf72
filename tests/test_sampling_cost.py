"""The FLOPs of sampling that the policy's layers do not see: those of the built-in sampler, and who charges none."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from zoo_core.accounting.audit import ExactCounter
from zoo_core.accounting.meter import Meter
from zoo_core.compute import fixed_sampler, packing, sampler
from zoo_core.compute.sampler import response_mask, sample_cached
from zoo_core.compute.sampling_cost import sampling_cost
from zoo_core.errors import ModelError
from zoo_core.models.lora import add_adapter
from zoo_core.rollout import Prompts, Responses
from zoo_core.run import Run
from zoo_core.testing.families import PACKED, model_of
from zoo_core.testing.tiny import tiny_policy, tiny_session

ENDS = [2, 11, 12, 13]
PROMPTS = [[1, 5, 6, 7], [1], [1, 5, 6, 7], [1, 9, 9, 9, 9, 9, 9], [1, 3], [1, 30], [1, 31, 8], [1, 32, 9]]


def prompts_of(rows: list[list[int]]) -> Prompts:
    batch = Responses.of([(row, ()) for row in rows], 0, torch.device("cpu"))
    return Prompts(batch.tokens, batch.attention, [""] * len(rows), given=batch.given)


def both(policy: PreTrainedModel, rows: list[list[int]], limit: int, seed: int, ends: list[int]) -> tuple[int, int]:
    """Return what sampling is charged, and what is said to be its cost by its lengths."""
    meter = Meter()
    meter.attach(policy, "policy")
    prompts, generator = prompts_of(rows), torch.Generator().manual_seed(seed)
    tokens, _ = sample_cached(
        policy, prompts, response_tokens=limit, temperature=1.0, eos=ends, pad=0, generator=generator
    )
    charged = meter.total
    told = sampling_cost(policy, prompts, response_mask(tokens, ends).sum(1).tolist(), limit)
    assert meter.total == charged  # asking charges nothing
    return charged, told


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("limit", [1, 2, 6, 40])
def test_the_cost_is_that_of_the_built_in_sampler_to_the_digit(seed: int, limit: int) -> None:
    charged, told = both(tiny_policy(), PROMPTS, limit, seed, ENDS)
    assert told == charged > 0


def test_all_rows_may_end_at_once_or_none_at_all() -> None:
    policy = tiny_policy()
    policy.generation_config.eos_token_id = None
    nothing = policy.config.vocab_size  # the first id that no token has
    for ends in (list(range(nothing)), [nothing]):
        charged, told = both(policy, PROMPTS, 20, 0, ends)
        assert told == charged > 0


@pytest.mark.parametrize("family", PACKED)
def test_it_is_so_for_every_architecture_that_packs(family: str) -> None:
    charged, told = both(model_of(family).eval(), PROMPTS, 24, 0, ENDS)
    assert told == charged > 0


def test_adapters_cost_what_they_compute() -> None:
    policy = tiny_policy()
    plain, _ = both(policy, PROMPTS, 12, 0, [2])
    add_adapter(policy, "policy", 2)
    charged, told = both(policy, PROMPTS, 12, 0, [2])
    assert told == charged > plain


@pytest.mark.parametrize("seed", range(3))
def test_it_is_so_for_the_sampler_of_gpus_too(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "FIXED", {"cpu"})
    monkeypatch.setattr(packing, "AT_ONCE", {"cpu"})
    for name, value in (("LOOKS", 2), ("ROWS", 2), ("COLUMNS", 8)):
        monkeypatch.setattr(fixed_sampler, name, value)
    charged, told = both(tiny_policy(), PROMPTS, 24, seed, ENDS)
    assert told == charged > 0


def test_a_model_in_half_precision_on_adapters_in_single_costs_the_same() -> None:
    policy = tiny_policy()
    add_adapter(policy, "policy", 2)
    counts = [3] * len(PROMPTS)
    before = sampling_cost(policy, prompts_of(PROMPTS), counts, 6)
    for weight in policy.parameters():
        if not weight.requires_grad:
            weight.data = weight.data.to(torch.bfloat16)
    assert sampling_cost(policy, prompts_of(PROMPTS), counts, 6) == before


def test_an_audit_does_not_count_what_is_only_asked_about() -> None:
    with ExactCounter() as counter:
        sampling_cost(tiny_policy(), prompts_of(PROMPTS), [4] * len(PROMPTS), 6)
    assert counter.total == 0


def test_a_model_that_does_not_pack_is_refused_by_name() -> None:
    policy = tiny_policy()
    policy.config._attn_implementation = "eager"
    with pytest.raises(ModelError, match=r"LlamaForCausalLM.*does not take packed rows.*rollout_engine: cached"):
        sampling_cost(policy, prompts_of(PROMPTS), [1] * len(PROMPTS), 6)


class Elsewhere:
    """Samples from another model of the same weights, in a thread: neither meter nor audit sees it."""

    def __init__(self, *, says_so: bool) -> None:
        self.samples_elsewhere = says_so

    def __call__(self, policy: PreTrainedModel, prompts: Prompts, **how: Any) -> tuple[Tensor, Tensor]:
        hidden = tiny_policy()
        hidden.load_state_dict(policy.state_dict())
        hidden.generation_config = policy.generation_config
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(sample_cached, hidden, prompts, **how).result()


def sampled(engine: Any) -> Any:
    """Return the ledger after one update that samples twice, and the tokens."""
    session = tiny_session(("prompts",))
    session.engine = engine or session.engine
    run, tokens = Run(session), []
    weight = nn.Linear(2, 2)
    for update in run.updates(1):
        tokens += [run.sample(run.prompts.batch(update, 4)).responses for _ in range(2)]
        weight.bias.sum().backward()
    return session.ledger, tokens


def test_what_is_sampled_elsewhere_is_charged_as_if_it_were_sampled_here() -> None:
    here, tokens = sampled(None)
    there, same = sampled(Elsewhere(says_so=True))
    assert [one.tolist() for one in tokens] == [one.tolist() for one in same]
    assert there.meter.cells == here.meter.cells
    assert (here.declared, there.declared) == (0, here.flops)
    assert there.flags == here.flags == []
    assert there.audit_charged == there.audit_counted == 0  # nothing ran where an audit could see it


def test_an_engine_whose_layers_charge_as_they_sample_is_not_flagged() -> None:
    ledger, _ = sampled(lambda policy, prompts, **how: sample_cached(policy, prompts, **how))
    assert ledger.flops > 0
    assert ledger.flags == []


def test_an_engine_that_charges_nothing_and_does_not_say_why_is_flagged() -> None:
    ledger, _ = sampled(Elsewhere(says_so=False))
    assert ledger.flops == 0
    assert ledger.flags == ["the rollout engine charged less than half of what its sampling costs"]
