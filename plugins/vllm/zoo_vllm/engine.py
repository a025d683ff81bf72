"""The engine: hand the policy's weights over if they changed, let vLLM sample, ask the policy for log-probabilities.

vLLM works in a thread of its own. What torch keeps for each thread (autocast, gradients, the exact count of an audit)
is then not switched on in vLLM, which compiles and records its steps.
"""

import os
import tempfile
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from zoo_core.compute.processes import world_size
from zoo_core.errors import SpecError
from zoo_core.models.lora import active_adapter, adapted_layers, merged_weights, plain
from zoo_core.rollout import Prompts, Responses, response_logprobs

T = TypeVar("T")
SEEDS = 2**31
"""A request's seed is below this number."""


class VLLMEngine:
    """A rollout engine (`zoo_core.rollout.RolloutEngine`) with one vLLM for the policies of a process."""

    samples_elsewhere = True
    """No layer of the policy sees what vLLM computes; `run.sample` charges it."""

    def __init__(self, memory_share: float) -> None:
        self.memory_share = memory_share
        """The share of the GPU's memory that vLLM takes."""
        self.handed_over = 0
        """How many times weights were handed over."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vllm")
        self._llm: Any = None
        self._architecture: object = None
        self._weights: list[int] = []

    def __call__(
        self,
        policy: PreTrainedModel,
        prompts: Prompts,
        *,
        response_tokens: int,
        temperature: float,
        eos: Collection[int],
        pad: int,
        generator: torch.Generator,
    ) -> tuple[Int[Tensor, "B T"], Float[Tensor, "B T"]]:
        """Sample one response per prompt with vLLM; see `RolloutEngine`. The policy computes the log-probabilities."""
        if world_size() > 1:
            raise SpecError(
                f"rollout_engine: vllm samples in one process, and this training has {world_size()}. Start it without "
                "--launch, or use `rollout_engine: cached`."
            )
        if response_tokens < 1:
            raise ValueError(f"response_tokens={response_tokens} must be 1 or more.")
        self._bring_up_to_date(policy)
        seeds = torch.randint(SEEDS, (len(prompts),), generator=generator, device=generator.device).tolist()
        rows = [[*shared, *own] for shared, own in prompts.rows]
        answers = self._in_thread(lambda: self._generate(rows, seeds, response_tokens, temperature, sorted(eos)))
        responses = Responses.of(list(zip(rows, answers, strict=True)), pad, prompts.tokens.device)
        with torch.no_grad():
            logprobs = response_logprobs(policy, responses, temperature or 1.0)
        return responses.responses, logprobs

    def _generate(
        self, rows: list[list[int]], seeds: list[int], response_tokens: int, temperature: float, ends: list[int]
    ) -> list[list[int]]:
        """Return the tokens of one response to each row, its end included."""
        settings = [
            _vllm().SamplingParams(
                temperature=temperature,
                max_tokens=response_tokens,
                stop_token_ids=ends,
                ignore_eos=True,  # only what `eos` names ends a response
                seed=seed,
                detokenize=False,
            )
            for seed in seeds
        ]
        requests = [{"prompt_token_ids": row} for row in rows]
        return [list(answer.outputs[0].token_ids) for answer in self._llm.generate(requests, settings, use_tqdm=False)]

    def _bring_up_to_date(self, policy: PreTrainedModel) -> None:
        """Hand the policy's weights over, unless vLLM has them already."""
        precision, weights = _precision(policy), _sums(policy)
        architecture = type(policy).__name__, policy.config.to_json_string(), precision
        if architecture != self._architecture:
            self._llm = None  # freed before the next one is made: there is no room for two
            self._llm = self._in_thread(lambda: _started(policy, precision, self.memory_share))
            self._architecture, self._weights = architecture, []
        if weights != self._weights:
            named = list(_named_weights(policy).items())
            self._in_thread(lambda: self._llm.apply_model(lambda model: model.load_weights(named)))
            self._in_thread(lambda: self._llm.reset_prefix_cache())  # states of the old weights
            self._weights = weights
            self.handed_over += 1

    def _in_thread(self, work: Callable[[], T]) -> T:
        return self._thread.submit(work).result()


@cache
def engine_of(memory_share: float) -> VLLMEngine:
    """Return the engine of this process with that share of the GPU's memory."""
    return VLLMEngine(memory_share)


def _vllm() -> Any:
    """Return the package, an extra that is imported when it is used: few machines have it."""
    return import_module("vllm")


def _started(policy: PreTrainedModel, precision: str, memory_share: float) -> Any:
    """Return vLLM with the policy's architecture and weights that do not matter yet."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # read when vLLM starts: the weights are handed over in memory
    with tempfile.TemporaryDirectory() as folder:
        policy.config.save_pretrained(folder)
        return _vllm().LLM(
            model=folder,
            skip_tokenizer_init=True,
            load_format="dummy",
            generation_config="vllm",  # no defaults from a file
            dtype=precision,
            gpu_memory_utilization=memory_share,
        )


def _precision(policy: PreTrainedModel) -> str:
    """Return the type that the policy computes in: that of autocast, if it is on."""
    kind = policy.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
    return str(dtype).removeprefix("torch.")


def _named_weights(policy: PreTrainedModel) -> dict[str, Tensor]:
    """Return the weights under the names of a file, with the active adapter merged; those that are tied once."""
    if not any(adapted_layers(policy)):
        state = dict(policy.state_dict())
    elif active_adapter(policy) is None:
        state = {plain(path): weight for path, weight in policy.state_dict().items() if ".lora_" not in path}
    else:
        state = merged_weights(policy)
    head = policy.get_output_embeddings()
    if head is not None and head.weight is policy.get_input_embeddings().weight:
        names = {plain(name) for name, module in policy.named_modules() if module is head}
        state = {name: weight for name, weight in state.items() if name.removesuffix(".weight") not in names}
    return state


def _sums(policy: PreTrainedModel) -> list[int]:
    """Return the sum of each weight's bits, read as whole numbers, and which adapter is active.

    Whole numbers are added without rounding, so that the smallest step changes a sum.
    """
    whole = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    sums = [weight.detach().view(whole[weight.element_size()]).sum(dtype=torch.int64) for weight in policy.parameters()]
    active = hash(active_adapter(policy)) if any(adapted_layers(policy)) else 0
    return [active, *torch.stack(sums).tolist()]
