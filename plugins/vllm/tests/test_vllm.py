"""The contract of the engine, with a stand-in for vLLM whose sampling is by the same Hugging Face model."""

import importlib.machinery
import sys
import types
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoConfig, AutoModelForCausalLM
from zoo_grpo.config import GRPOConfig
from zoo_grpo.train import train
from zoo_vllm import engine as module
from zoo_vllm.engine import VLLMEngine
from zoo_vllm.plugin import zoo_rollout_engine

from zoo_core.accounting.meter import Meter
from zoo_core.compute import sampler
from zoo_core.compute.sampler import response_mask, sample_cached
from zoo_core.errors import SpecError
from zoo_core.models.copies import copied
from zoo_core.models.lora import adapter, add_adapter, unadapted
from zoo_core.rollout import Prompts, Responses, RolloutEngine
from zoo_core.run import Run
from zoo_core.testing.tiny import tiny_policy, tiny_session

ROWS = [[1, 5, 6, 7], [1], [1, 5, 6, 7], [1, 9, 9, 9, 9], [1, 3], [1, 5, 6, 7]]
ENDS = [2, 11, 12]
PAD = 0


@dataclass(kw_only=True)
class SamplingParams:
    """The fields of vLLM's that the engine sets; any other is an error."""

    temperature: float
    max_tokens: int
    stop_token_ids: list[int]
    ignore_eos: bool
    seed: int
    detokenize: bool


class LLM:
    """vLLM's `LLM` of 0.20: `generate` on token prompts, `apply_model`, `reset_prefix_cache`."""

    def __init__(
        self,
        model: str,
        *,
        skip_tokenizer_init: bool,
        load_format: str,
        generation_config: str,
        dtype: str,
        gpu_memory_utilization: float,
    ) -> None:
        assert (skip_tokenizer_init, load_format, generation_config) == (True, "dummy", "vllm")
        self.share, self.stale = gpu_memory_utilization, False
        with torch.random.fork_rng():
            made = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model), dtype=getattr(torch, dtype))
        self.model = Loaded(made.eval())

    def apply_model(self, func: Any) -> list[Any]:
        self.stale = True
        return [func(self.model)]

    def reset_prefix_cache(self) -> bool:
        self.stale = False
        return True

    @torch.inference_mode()
    def generate(self, prompts: list[dict[str, list[int]]], sampling_params: list[Any], *, use_tqdm: bool) -> list[Any]:
        assert not use_tqdm
        assert not self.stale, "keys and values of old weights are reused"
        assert not torch.is_autocast_enabled("cpu")
        return [
            types.SimpleNamespace(outputs=[types.SimpleNamespace(token_ids=tuple(self._one(prompt, settings)))])
            for prompt, settings in zip(prompts, sampling_params, strict=True)
        ]

    def _one(self, prompt: dict[str, list[int]], settings: SamplingParams) -> list[int]:
        generator = torch.Generator().manual_seed(settings.seed)
        row, response = list(prompt["prompt_token_ids"]), list[int]()
        while len(response) < settings.max_tokens and not set(response) & set(settings.stop_token_ids):
            logits = self.model.inside(torch.tensor([[*row, *response]])).logits[0, -1].float()
            if settings.temperature:
                shares = (logits / settings.temperature).softmax(-1)
                response.append(int(torch.multinomial(shares, 1, generator=generator)))
            else:
                response.append(int(logits.argmax()))
        return response


class Loaded:
    """A model of vLLM: its names are those of a checkpoint's file, and an unknown one is an error."""

    def __init__(self, inside: Any) -> None:
        self.inside = inside

    def load_weights(self, weights: list[tuple[str, torch.Tensor]]) -> set[str]:
        missing, unknown = self.inside.load_state_dict(dict(weights), strict=False)
        assert not unknown
        assert set(missing) <= {"lm_head.weight"} or not missing
        return {name for name, _ in weights}


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `import vllm` find the stand-in."""
    fake: Any = types.ModuleType("vllm")
    fake.LLM, fake.SamplingParams, fake.__spec__ = LLM, SamplingParams, importlib.machinery.ModuleSpec("vllm", None)
    monkeypatch.setitem(sys.modules, "vllm", fake)


@pytest.fixture
def engine(stand_in: None) -> VLLMEngine:
    return VLLMEngine(0.3)


def prompts_of(rows: list[list[int]]) -> Prompts:
    batch = Responses.of([(row, ()) for row in rows], PAD, torch.device("cpu"))
    return Prompts(batch.tokens, batch.attention, [""] * len(rows), given=batch.given)


def settings(**other: Any) -> dict[str, Any]:
    seed = other.pop("seed", 0)
    known = {"response_tokens": 12, "temperature": 1.0, "eos": ENDS, "pad": PAD}
    return {**known, "generator": torch.Generator().manual_seed(seed), **other}


def test_it_is_a_rollout_engine(engine: VLLMEngine) -> None:
    assert isinstance(engine, RolloutEngine)


def test_at_temperature_0_it_gives_what_the_built_in_sampler_gives(engine: VLLMEngine) -> None:
    policy, prompts = tiny_policy(), prompts_of(ROWS)
    tokens, logprobs = engine(policy, prompts, **settings(temperature=0.0))
    wanted, known = sample_cached(policy, prompts, **settings(temperature=0.0))
    assert tokens.tolist() == wanted.tolist()
    assert_close(logprobs, known)


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_log_probabilities_are_those_of_the_policy_at_the_temperature(engine: VLLMEngine, temperature: float) -> None:
    policy, prompts = tiny_policy(), prompts_of(ROWS)
    tokens, logprobs = engine(policy, prompts, **settings(temperature=temperature))
    for row, response, found in zip(ROWS, tokens.tolist(), logprobs.tolist(), strict=True):
        for place, token in enumerate(response[: response_mask(torch.tensor([response]), ENDS).sum()]):
            logits = policy(torch.tensor([[*row, *response[:place]]])).logits[0, -1].detach()
            assert found[place] == pytest.approx(float((logits / temperature).log_softmax(-1)[token]), abs=1e-5)


def test_each_of_several_ends_ends_a_response_and_padding_follows(engine: VLLMEngine) -> None:
    tokens, logprobs = engine(tiny_policy(), prompts_of(ROWS * 20), **settings(response_tokens=40))
    mask = response_mask(tokens, ENDS)
    last = {row[int(count) - 1] for row, count in zip(tokens.tolist(), mask.sum(1), strict=True) if count < 40}
    assert last == set(ENDS)
    assert (tokens[~mask] == PAD).all()
    assert (logprobs[~mask] == 0).all()
    assert (logprobs[mask] < 0).all()


def test_responses_that_end_at_once_have_one_token(engine: VLLMEngine) -> None:
    policy = tiny_policy()
    everything = list(range(policy.config.vocab_size))
    tokens, logprobs = engine(policy, prompts_of(ROWS), **settings(eos=everything))
    assert tokens.shape == logprobs.shape == (len(ROWS), 1)


def test_a_seed_gives_the_same_responses_and_prompts_that_repeat_different_ones(engine: VLLMEngine) -> None:
    one, same, other = (
        engine(tiny_policy(), prompts_of(ROWS), **settings(seed=seed))[0].tolist() for seed in (3, 3, 4)
    )
    assert one == same != other
    assert one[0] != one[2]  # the same prompt


def test_a_changed_policy_is_handed_over_once_and_an_unchanged_one_is_not(engine: VLLMEngine) -> None:
    policy, prompts = tiny_policy(), prompts_of(ROWS)
    for _ in range(3):
        engine(policy, prompts, **settings())
    assert engine.handed_over == 1
    with torch.no_grad():
        weight = policy.model.layers[0].mlp.up_proj.weight
        weight[0, 0] = torch.nextafter(weight[0, 0], torch.tensor(9.0))  # the smallest change there is
    for _ in range(2):
        engine(policy, prompts, **settings())
    assert engine.handed_over == 2
    with torch.no_grad():
        policy.model.norm.weight.mul_(-1)
    tokens, _ = engine(policy, prompts, **settings(temperature=0.0))
    assert engine.handed_over == 3
    assert tokens.tolist() == sample_cached(policy, prompts, **settings(temperature=0.0))[0].tolist()


def test_policies_of_another_architecture_get_another_vllm(engine: VLLMEngine) -> None:
    for policy in (tiny_policy(), tiny_policy(num_hidden_layers=1), tiny_policy()):
        tokens, _ = engine(policy, prompts_of(ROWS), **settings(temperature=0.0))
        wanted, _ = sample_cached(policy, prompts_of(ROWS), **settings(temperature=0.0))
        assert tokens.tolist() == wanted.tolist()


@pytest.mark.parametrize("tied", [False, True])
def test_of_an_adapter_the_merged_weights_are_handed_over(engine: VLLMEngine, tied: bool) -> None:
    policy, prompts = tiny_policy(tie_word_embeddings=tied), prompts_of(ROWS)
    add_adapter(policy, "policy", 2)
    with torch.no_grad():
        for name, weight in policy.named_parameters():
            if "lora_B" in name:
                weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    tokens, logprobs = engine(policy, prompts, **settings(temperature=0.0))
    wanted, known = sample_cached(unadapted(copied(policy)), prompts, **settings(temperature=0.0))
    assert tokens.tolist() == wanted.tolist()
    assert_close(logprobs, known, atol=1e-5, rtol=1e-4)  # products in another order
    with adapter(policy, None):
        base, _ = engine(policy, prompts, **settings(temperature=0.0))
        assert base.tolist() == sample_cached(policy, prompts, **settings(temperature=0.0))[0].tolist()
    assert base.tolist() != tokens.tolist()


def test_tied_weights_are_handed_over_once() -> None:
    tied, apart = (module._named_weights(tiny_policy(tie_word_embeddings=one)) for one in (True, False))
    assert apart.keys() - tied.keys() == {"lm_head.weight"}


def test_sampling_is_declared_and_the_log_probabilities_are_metered(engine: VLLMEngine) -> None:
    session = tiny_session(("prompts",))
    session.engine = engine
    run = Run(session)
    for update in run.updates(1):
        rollout = run.sample(run.prompts.batch(update, 4))
    ledger = session.ledger
    assert ledger.declared > 0
    assert ledger.metered_here == ledger.audit_charged == ledger.audit_counted > 0  # the audit sees the policy alone
    assert ledger.flags == []
    assert ledger.generated_tokens == int(rollout.mask.sum())
    policy, meter = tiny_policy(), Meter()
    meter.attach(policy, "policy")
    forced = _forced(policy, rollout)
    assert ledger.declared == forced == meter.total


def _forced(policy: Any, rollout: Any) -> int:
    """Sample the same responses with the built-in sampler, whose choice is replaced; return what it was charged."""
    wanted = rollout.responses

    def choose(logits: Any, uniform: Any, temperature: float) -> Any:
        # The random number of a row and step names the token: it is the token's id as a fraction.
        token = (uniform * logits.shape[1]).round().long()
        return token, logits.log_softmax(-1).gather(1, token[:, None])[:, 0]

    count = policy.config.vocab_size
    drawn = torch.zeros(len(wanted), 6)
    drawn[:, : wanted.shape[1]] = wanted / count
    prompts = Prompts(
        rollout.tokens[:, : rollout.prompt_length], rollout.attention[:, : rollout.prompt_length], [""] * len(rollout)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampler, "choose", choose)
        patch.setattr(torch, "rand", lambda *_, **__: drawn.T)
        sample_cached(
            policy, prompts, response_tokens=6, temperature=1.0, eos=[2], pad=PAD, generator=torch.Generator()
        )
    return policy._zoo[0].total


def test_grpo_trains_with_it_and_hands_the_policy_over_once_an_update(engine: VLLMEngine) -> None:
    config = GRPOConfig(batch_size=8, group_size=4, minibatch_size=4, epochs=1, learning_rate=1e-2)
    trial = tiny_session(("prompts", "reward"))
    trial.engine = VLLMEngine(0.3)
    next(train(config, Run(trial)))
    session = tiny_session(("prompts", "reward"), budget=4.7 * trial.ledger.flops)
    session.engine = engine
    history = list(train(config, Run(session)))
    assert len(history) >= 3
    assert abs(history[0]["kl"]) < 1e-5  # the log-probabilities are the policy's own
    undone = sum("discarded" in flag for flag in session.ledger.flags)
    assert engine.handed_over == session.ledger.updates + undone
    assert session.ledger.flops <= session.budget
    assert session.ledger.report()["audit_ratio"] == pytest.approx(1.0, abs=0.02)


def test_several_processes_are_refused(engine: VLLMEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "world_size", lambda: 2)
    with pytest.raises(SpecError, match="one process, and this training has 2"):
        engine(tiny_policy(), prompts_of(ROWS), **settings())


def test_the_name_gives_the_share_of_the_memory(stand_in: None) -> None:
    assert zoo_rollout_engine("cached") is None
    assert zoo_rollout_engine("vllm").memory_share == 0.3
    assert zoo_rollout_engine("vllm:0.45").memory_share == 0.45
    assert zoo_rollout_engine("vllm") is zoo_rollout_engine("vllm:0.3")  # one for each process


@pytest.mark.parametrize("name", ["vllm:", "vllm:much", "vllm:0", "vllm:1", "vllm:nan"])
def test_a_share_that_is_none_is_refused(name: str, stand_in: None) -> None:
    with pytest.raises(SpecError, match=r"between 0 and 1: vllm:0\.3"):
        zoo_rollout_engine(name)


def test_without_vllm_the_refusal_says_what_to_install() -> None:
    with pytest.raises(SpecError, match=r"needs the package vllm.*pip install 'zoo-vllm\[vllm\]'"):
        zoo_rollout_engine("vllm")
