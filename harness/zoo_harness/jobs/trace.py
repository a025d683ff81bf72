"""What an update computes and holds, by the part of a model that does: enough to tell what a larger model would.

A part is written as what its cost grows with:

    layer/3/6/linear      the linear layers of the fourth of six layers; also attention, lora_A, lora_B, parameters, and
                          hidden, inner, kv, tokens: the width of what is held for the backward pass
    outside/512x64        weights of that shape outside the layers; outside/causal, outside/vocabulary, ...: by name
    fixed                 what stays as it is whatever the base model: a ready-made scorer, a judge of its own
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from zoo_core.accounting.meter import Meter
from zoo_core.compute.adamw_8bit import AdamW8bit, bytes_of_moments
from zoo_core.compute.sharding import local_shard
from zoo_core.rollout import Prompts, RolloutEngine
from zoo_harness.jobs.activations import Held
from zoo_harness.planning.sizes import Sizes, linear_layers, models_in, stack, widths
from zoo_harness.results import PartCost

FIXED = "fixed"
Cells = Counter[tuple[str, str, str]]
"""FLOPs by role, phase and part."""


@dataclass
class Resident:
    """Bytes by part that a run holds between updates."""

    weights: Counter[str] = field(default_factory=Counter)
    gradients: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    """Of the optimizers."""
    undo: Counter[str] = field(default_factory=Counter)
    """The copy of all that a run keeps, by which it can undo the update that passes its budget."""


class Tracer(Meter):
    """A meter that tells the parts of each model apart; without the base's sizes all is `fixed`."""

    def __init__(self, base: Sizes | None, foreign: Collection[nn.Module] = ()) -> None:
        super().__init__()
        self.base = base
        self.whole: dict[str, nn.Module] = {}
        """The models of all roles."""
        self.held = Held(base, self.whole)
        self._foreign = foreign

    @property
    def modules(self) -> list[nn.Module]:
        """The models of all roles."""
        return list(self.whole.values())

    @property
    def parts(self) -> Cells:
        """FLOPs so far."""
        found: Cells = Counter()
        for (role, phase), flops in self.cells.items():
            name, _, part = role.partition("|")
            found[name, phase, part or FIXED] += flops
        return found

    def attach(self, module: nn.Module, role: str) -> None:
        """Count what each part of a model computes, under this role."""
        self.whole[role] = module
        super().attach(module, f"{role}|{FIXED}")
        for model in models_in(module):
            if not self._is_fixed(model):
                self._attach_parts(model, role)

    def _attach_parts(self, module: nn.Module, role: str) -> None:
        layers = stack(module)
        path, blocks = layers or ("", nn.ModuleList())
        for number, block in enumerate(blocks):
            super().attach(block, f"{role}|layer/{number}/{len(blocks)}/attention")
            self.held.watch(block, f"layer/{number}/{len(blocks)}")
        for name, layer in module.named_modules():
            if hasattr(layer, "weight") and isinstance(layer.weight, Tensor) and layer.weight.dim() == 2:
                super().attach(layer, f"{role}|{self._part(module, path, name, widths(layer))}")

    def attach_again(self) -> None:
        """Find layers added to attached models since (LoRA)."""
        for role, module in list(self.whole.items()):
            self.attach(module, role)

    def look(self, compute: Callable[[], Any]) -> None:
        """Note what a computation holds while its backward pass runs, for which it is done a second time then."""
        if not self.held.watching:
            return
        before = self.cells
        self.cells = dict(before)
        with torch.random.fork_rng(), self.held.once_more():
            compute()
        self.cells = before

    def weights(self, kept: Iterable[object]) -> "Resident":
        """Return what models and optimizers hold, in all processes together; shared memory counts once."""
        models = [thing for thing in kept if isinstance(thing, nn.Module)]
        optimizers = [thing for thing in kept if isinstance(thing, Optimizer)]
        states = {
            weight: optimizer.state.get(weight, {})
            for optimizer in optimizers
            for group in optimizer.param_groups
            for weight in group["params"]
        }
        rounded = {
            weight
            for optimizer in optimizers
            if isinstance(optimizer, AdamW8bit)
            for group in optimizer.param_groups
            for weight in group["params"]
            if weight.dim() > 1
        }
        found = Resident()
        seen: set[int] = set()
        for whole, module in [(one, model) for one in self.modules for model in models_in(one)]:
            fixed = self._is_fixed(module)
            path = (stack(module) or ("", None))[0]
            causal = isinstance(module, PreTrainedModel) and module.get_output_embeddings() is not None
            for name, weight in module.named_parameters():
                place = local_shard(weight).data_ptr()
                if place in seen:
                    continue
                seen.add(place)
                part = FIXED if fixed else self._part(module, path, name, tuple(weight.shape), "parameters")
                part = "outside/causal" if causal and part.startswith("outside/") else part
                found.weights[part] += weight.nbytes
                found.undo[part] += weight.nbytes * (weight.requires_grad and any(whole is model for model in models))
                if weight in states and weight.requires_grad:
                    found.gradients[part] += weight.nbytes
                    moments = sum(
                        one.nbytes for one in states[weight].values() if isinstance(one, Tensor) and one.dim()
                    )
                    if weight in rounded:  # matrices that are too small for it here are not in a larger model
                        moments = bytes_of_moments(weight.numel())
                    found.states[part] += moments
                    found.undo[part] += moments
        return found

    def _is_fixed(self, module: nn.Module) -> bool:
        """Whether a model is none of the base's shape, or not made from it."""
        if self.base is None or any(module in models_in(other) for other in self._foreign):
            return True
        layers = stack(module)
        if layers is None:
            return False
        products = [inputs * outputs for _, _, inputs, outputs in linear_layers(layers[1])]
        return sum(products) != len(layers[1]) * self.base.layer["linear"]

    def _part(self, module: nn.Module, path: str, name: str, shape: tuple[int, ...], kind: str = "linear") -> str:
        if path and name.startswith(f"{path}."):
            number = name.removeprefix(f"{path}.").split(".")[0]
            halves = [half for half in ("lora_A", "lora_B") if f".{half}." in name]
            return f"layer/{number}/{len(module.get_submodule(path))}/{halves[0] if halves else kind}"  # type: ignore[arg-type]
        return "outside/" + "x".join(map(str, shape))


class WatchedEngine:
    """A rollout engine that notes how much is sampled at once, and in how many steps."""

    def __init__(self, engine: RolloutEngine) -> None:
        self._engine = engine
        self.samples_elsewhere: bool = getattr(engine, "samples_elsewhere", False)
        self.calls = 0
        self.cached_tokens = 0
        """Rows times the longest sequence: tokens in the key-value cache, at most."""
        self.rows = 0
        """Rows that are sampled at once, at most."""
        self.steps = 0
        """Tokens that were sampled one behind the other."""

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
        """Sample with the engine."""
        sampled = self._engine(
            policy,
            prompts,
            response_tokens=response_tokens,
            temperature=temperature,
            eos=eos,
            pad=pad,
            generator=generator,
        )
        self.calls += 1
        self.steps += sampled[0].shape[1]
        self.rows = max(self.rows, len(prompts))
        self.cached_tokens = max(self.cached_tokens, len(prompts) * (prompts.tokens.shape[1] + response_tokens))
        return sampled


def mean_of(cells: list[Cells]) -> list[PartCost]:
    """Return the mean of several updates' FLOPs as JSON: role, phase, part, FLOPs."""
    total: Cells = sum(cells, Counter())
    return [(*cell, flops / len(cells)) for cell, flops in sorted(total.items())]
