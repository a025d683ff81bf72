"""The sampler of GPUs, on the CPU: the tokens of the plain one, for every architecture that packs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from transformers import PreTrainedModel

from zoo_core.accounting.audit import ExactCounter
from zoo_core.accounting.meter import Meter
from zoo_core.compute import fixed_sampler, graphs, precision, sampler
from zoo_core.compute.fixed_sampler import FixedSampler
from zoo_core.compute.graphs import Graphs
from zoo_core.compute.sampler import sample_cached
from zoo_core.models.lora import adapter, add_adapter
from zoo_core.rollout import Prompts, Responses, response_logprobs
from zoo_core.testing.families import PACKED, model_of

CPU = torch.device("cpu")
PROMPTS = [
    [1, 5, 6, 7],
    [1],
    [1, 5, 6, 7],
    [1, 9, 9, 9, 9, 9, 9],
    [1, 3],
    [1, 30],
    [1, 31, 8],
    [1, 32, 9],
    [1, 4],
    [1, 2],
]


def prompts_of(rows: list[list[int]]) -> Prompts:
    batch = Responses.of([(row, ()) for row in rows], 0, CPU)
    return Prompts(batch.tokens, batch.attention, [""] * len(rows), given=batch.given)


def sample(
    policy: PreTrainedModel, rows: list[list[int]] = PROMPTS, seed: int = 0, **settings: Any
) -> tuple[Tensor, Tensor]:
    known = {"response_tokens": 24, "temperature": 1.0, "eos": [2, 11, 12], "pad": 0, **settings}
    return sample_cached(policy, prompts_of(rows), generator=torch.Generator().manual_seed(seed), **known)


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bool], None]]:
    """Return a switch between the two samplers; rows are looked at and leave as soon as they can."""
    monkeypatch.setattr(fixed_sampler, "LOOKS", 2)
    monkeypatch.setattr(fixed_sampler, "ROWS", 2)
    monkeypatch.setattr(fixed_sampler, "COLUMNS", 8)

    def switch(on: bool) -> None:
        monkeypatch.setattr(sampler, "FIXED", {"cpu"} if on else set())

    switch(True)
    yield switch
    fixed_sampler._samplers.clear()


@pytest.mark.parametrize(
    ("kind", "temperature"), [*((kind, 1.0) for kind in PACKED), ("qwen2", 0.0), ("qwen2", 0.6), ("gpt2", 0.0)]
)
def test_tokens_are_those_of_the_plain_sampler(kind: str, temperature: float, fixed: Callable[[bool], None]) -> None:
    policy = model_of(kind)
    found = [sample(policy, seed=seed, temperature=temperature) for seed in range(3)]
    fixed(False)
    for seed, (tokens, logprobs) in enumerate(found):
        plain, likely = sample(policy, seed=seed, temperature=temperature)
        assert torch.equal(tokens, plain)
        assert_close(logprobs, likely, rtol=1e-4, atol=1e-4)


def test_rows_that_have_ended_leave(fixed: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch) -> None:
    policy, seen = model_of("llama"), list[int]()
    read = FixedSampler._read
    monkeypatch.setattr(FixedSampler, "_read", lambda self, model: seen.append(self.cache.running) or read(self, model))
    sample(policy)
    assert seen == sorted(seen, reverse=True)
    assert seen[0] == 10
    assert seen[-1] <= 4


def test_batches_of_other_sizes_use_the_same_tensors_or_larger_ones(fixed: Callable[[bool], None]) -> None:
    policy = model_of("qwen2")
    batches = [PROMPTS[:3], PROMPTS, PROMPTS[:1], [[1] * 30], PROMPTS[4:7]]
    found, made = [], []
    for rows in batches:
        found.append(sample(policy, rows)[0])
        made.append(fixed_sampler._samplers[policy])
    assert made[0] is not made[1] is made[2] is not made[3] is made[4]
    fixed(False)
    for rows, tokens in zip(batches, found, strict=True):
        assert torch.equal(tokens, sample(policy, rows)[0])


def test_what_a_batch_costs_does_not_depend_on_the_batches_before_it(fixed: Callable[[bool], None]) -> None:
    def cost(*before: list[list[int]]) -> int:
        policy, meter = model_of("qwen2"), Meter()
        meter.attach(policy, "policy")
        for rows in before:
            sample(policy, rows)
        spent = meter.total
        sample(policy, PROMPTS[:3])
        return meter.total - spent

    assert cost() == cost([[1] * 30]) == cost(PROMPTS, PROMPTS[:1])


def test_weights_that_were_trained_are_sampled_and_weights_that_were_replaced_are_found(
    fixed: Callable[[bool], None],
) -> None:
    policy = model_of("llama")
    sample(policy)
    with torch.no_grad():
        for weight in policy.parameters():
            weight += 0.1 * torch.rand(weight.shape, generator=torch.Generator().manual_seed(1))
    trained = sample(policy)[0]
    first = fixed_sampler._samplers[policy]
    for weight in policy.parameters():
        weight.data = weight.data.clone()
    assert torch.equal(sample(policy)[0], trained)
    assert fixed_sampler._samplers[policy] is not first
    fixed(False)
    assert torch.equal(sample(policy)[0], trained)


@pytest.mark.parametrize("kept", ["fp32", "bf16"])
def test_the_adapter_that_is_active_is_sampled(
    kept: precision.Precision, fixed: Callable[[bool], None], taped: list["Tape"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_precision", kept)
    policy = model_of("llama")
    without = sample(policy)[1]
    for weight in add_adapter(policy, "mine", 4):
        weight.data.normal_(generator=torch.Generator().manual_seed(1), std=0.3)
    with_it = sample(policy)[1]
    with adapter(policy, None):
        assert torch.equal(sample(policy)[1], without)
    assert torch.equal(sample(policy)[1], with_it)
    assert not torch.equal(with_it[:, 0], without[:, 0])


def test_a_policy_that_is_gone_leaves_nothing_behind(fixed: Callable[[bool], None]) -> None:
    policy = model_of("llama")
    sample(policy)
    assert len(fixed_sampler._samplers) == 1
    del policy
    assert len(fixed_sampler._samplers) == 0


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "gpt_neox", "gemma", "opt"])
def test_in_bf16_weights_are_cast_once_and_follow_the_policy(
    kind: str, fixed: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_precision", "bf16")
    policy = model_of(kind)
    sample(policy, seed=1)
    with torch.no_grad():
        for weight in policy.parameters():
            weight *= 0.5
    tokens, logprobs = sample(policy)
    rough = fixed_sampler._samplers[policy].rough
    assert rough is not None
    assert {weight.dtype for weight in rough.parameters()} == {torch.bfloat16}
    assert {weight.dtype for weight in policy.parameters()} == {torch.float32}
    monkeypatch.setattr(precision, "_precision", "fp32")
    mask = sampler.response_mask(tokens, [2, 11, 12])
    exact = response_logprobs(policy, Responses.join(prompts_of(PROMPTS), tokens, mask))
    # The samples are those of the weights as they are now, to the precision of bf16: 8 bits.
    assert (logprobs - exact)[mask].abs().mean() < 0.05
    assert sample(policy)[1].dtype == logprobs.dtype == torch.float32


def test_the_meter_charges_what_an_exact_count_counts(fixed: Callable[[bool], None]) -> None:
    policy, meter = model_of("qwen2"), Meter()
    meter.attach(policy, "policy")
    with ExactCounter() as counter:
        sample(policy)
    assert meter.total == counter.total > 0


class Tape(TorchDispatchMode):
    """What a CUDA graph is, on the CPU: the operators that ran, with the tensors that they read and wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: list[tuple[Any, Any, Any, Any]] = []
        self.replays = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.operators.append((func, args, kwargs or {}, found))
        return found

    def replay(self) -> None:
        """Run the operators again, each into the tensors that it wrote then."""
        self.replays += 1
        with _disable_current_modes():  # nobody sees what a graph runs
            for func, args, kwargs, found in self.operators:
                again = func(*args, **kwargs)
                for new, old in zip(
                    *([one] if isinstance(one, Tensor) else one for one in (again, found)), strict=True
                ):
                    if new.data_ptr() != old.data_ptr():  # else it was written in place, or is a view
                        old.copy_(new)


@pytest.fixture
def taped(monkeypatch: pytest.MonkeyPatch) -> list[Tape]:
    """Record steps on tapes. As of a graph, recording leaves no trace in the tensors of a sampler."""
    tapes: list[Tape] = []

    def new_graph() -> Tape:
        tapes.append(Tape())
        return tapes[-1]

    @contextmanager
    def recording(graph: Tape, memory: object) -> Iterator[None]:
        states = [
            state
            for one in fixed_sampler._samplers.values()
            for state in (*one.of_rows, one.step, *(kept for layer in one.cache.states for kept in layer))
        ]
        before = [state.clone() for state in states]
        with graph:
            yield
        for state, old in zip(states, before, strict=True):
            state.copy_(old)

    monkeypatch.setattr(graphs, "new_graph", new_graph)
    monkeypatch.setattr(graphs, "graph_memory", object)
    monkeypatch.setattr(graphs, "recording", recording)
    monkeypatch.setattr(graphs, "RECORDS", {"cpu"})
    return tapes


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "gpt_neox", "gemma", "opt", "phi3"])
@pytest.mark.parametrize("kept", ["fp32", "bf16"])
def test_recorded_steps_sample_the_tokens_of_steps_that_run(
    kind: str,
    kept: precision.Precision,
    fixed: Callable[[bool], None],
    taped: list[Tape],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(precision, "_precision", kept)
    policy, meter = model_of(kind), Meter()
    meter.attach(policy, "policy")

    def everything() -> tuple[list[Tensor], int]:
        found, before = list[Tensor](), meter.total
        for seed in range(3):
            found += sample(policy, seed=seed)
            with torch.no_grad():  # as training does, in place
                for weight in policy.parameters():
                    weight += 0.02 * torch.rand(weight.shape, generator=torch.Generator().manual_seed(seed))
        return found, meter.total - before

    start = {name: weight.clone() for name, weight in policy.state_dict().items()}
    with ExactCounter() as counter:
        recorded, charged = everything()
    assert charged == counter.total
    assert sum(tape.replays for tape in taped) > 20
    fixed_sampler._samplers.clear()
    policy.load_state_dict(start)
    monkeypatch.setattr(graphs, "RECORDS", set())
    plain, charged_plain = everything()
    assert charged == charged_plain
    for one, other in zip(recorded, plain, strict=True):
        assert torch.equal(one, other)


def test_a_repeated_step_is_charged_and_counted_like_the_recorded_one(taped: list[Tape]) -> None:
    model, meter, calls = torch.nn.Linear(4, 3), Meter(), list[int]()
    meter.attach(model, "policy")
    states = torch.rand(5, 4)
    steps = Graphs(CPU)

    def step() -> None:
        calls.append(len(calls))
        model(states)

    with ExactCounter() as counter:
        for number in range(4):
            steps.run("a", step, model)
            assert meter.total == counter.total == (number + 1) * 2 * 5 * 4 * 3
    # Once as it is written, once to be recorded; the tape was played for the second, third and fourth time.
    assert (len(calls), taped[0].replays) == (2, 3)


def test_a_step_that_cannot_be_recorded_runs_as_it_is_written_and_says_so(
    taped: list[Tape], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, meter = torch.nn.Linear(4, 3), Meter()
    meter.attach(model, "policy")
    steps = Graphs(CPU)

    @contextmanager
    def recording(graph: Tape, memory: object) -> Iterator[None]:
        yield
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(graphs, "recording", recording)
    streams: list[str] = []
    monkeypatch.setattr(graphs, "stream_now", lambda _: lambda: streams.append("back"))
    done: list[int] = []

    def step() -> None:
        done.append(1)
        model(torch.ones(5, 4))

    steps.run("a", step, model)
    with pytest.warns(UserWarning, match="step by step: operation not permitted when stream is capturing$"):
        steps.run("a", step, model)
    steps.run("a", step, model)
    assert meter.total == 3 * 2 * 5 * 4 * 3
    assert len(done) == 4  # the second was called once more, to be recorded
    assert streams == ["back"]
