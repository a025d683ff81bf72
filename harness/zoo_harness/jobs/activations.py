"""What autograd holds for the backward passes of an update, by the part of a model that asked it to."""

import weakref
from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from zoo_core.compute.sharding import local_shard
from zoo_harness.planning.sizes import Sizes


class Held(saved_tensors_hooks):
    """Counts the bytes that autograd holds for backward passes, by part, when they were most.

    Weights of the models are not counted: they are there anyway.
    """

    def __init__(self, base: Sizes | None, models: Mapping[str, nn.Module]) -> None:
        super().__init__(self.pack, _Holder.unpack)
        self.peak: Counter[str] = Counter()
        self.largest_logits = 0
        """Bytes of the largest tensor over the vocabulary: its gradient is there as well when the backward begins."""
        self._base, self._models = base, models
        self._now: Counter[str] = Counter()
        self._total = self._most = 0
        self._holders: Counter[int] = Counter()
        self._where: dict[int, str] = {}
        self._part = "outside"
        self._watched: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self._weights: set[int] = set()
        self._cast: set[tuple[int, ...]] = set()
        """Shapes of the weights that autocast rounds."""
        self.watching = False
        """Whether what is computed now is noted."""

    def watch(self, block: nn.Module, part: str) -> None:
        """Book what a layer holds under its name."""
        if block not in self._watched:
            self._watched.add(block)
            block.register_forward_pre_hook(lambda *_: self._enter(part))
            block.register_forward_hook(lambda *_: self._enter("outside"), always_call=True)

    def __enter__(self) -> None:
        # Not kept from before: what was a weight then may be free memory, and the next activation's, now.
        weights = [weight for model in self._models.values() for weight in model.parameters()]
        self._weights = {local_shard(weight).untyped_storage().data_ptr() for weight in weights}
        rounded = [weight for weight in weights if weight.dim() == 2 and weight.dtype == torch.float32]
        self._cast = {tuple(sorted(weight.shape)) for weight in rounded}
        self.watching = True
        super().__enter__()

    def __exit__(self, *error: object) -> None:
        self.watching = False
        super().__exit__(*error)

    def once_more(self) -> saved_tensors_hooks:
        """Return a context that notes as this one does, inside another that would hold nothing."""
        return saved_tensors_hooks(self.pack, _Holder.unpack)

    def pack(self, tensor: Tensor) -> "_Holder":
        """Note that a tensor is held."""
        storage = tensor.untyped_storage()
        place, size = storage.data_ptr(), storage.nbytes()
        holder = _Holder(tensor.detach())  # a result that held its own graph would never be let go
        if place in self._weights or _is_weight(tensor) or not size:
            return holder
        width = self._width(tensor)
        if not self._holders[place]:
            part = self._where[place] = self._part_of(tensor, width)
            self._now[part] += size
            self._total += size
            if width == "vocabulary":
                self.largest_logits = max(self.largest_logits, size)
        self._holders[place] += 1
        weakref.finalize(holder, self._release, place, size)
        return holder

    def finish(self) -> Counter[str]:
        """Return bytes by part when they were most, with the gradient of the largest logits."""
        self._note()
        return self.peak + Counter({"outside/vocabulary": self.largest_logits})

    def _release(self, place: int, size: int) -> None:
        self._note()
        self._holders[place] -= 1
        if not self._holders[place]:
            self._now[self._where.pop(place)] -= size
            self._total -= size

    def _note(self) -> None:
        if self._total > self._most:
            self._most, self.peak = self._total, Counter(self._now)

    def _enter(self, part: str) -> None:
        self._part = part

    def _part_of(self, tensor: Tensor, width: str) -> str:
        if self._is_cast_weight(tensor):
            kind = "x".join(map(str, tensor.shape)) if self._part == "outside" else "parameters"
            return f"{self._part}/{kind}"
        return f"{'outside' if width == 'vocabulary' else self._part}/{width}"

    def _is_cast_weight(self, tensor: Tensor) -> bool:
        """Whether autocast made this from a weight: autograd holds it for as long as the activations."""
        return tensor.dtype != torch.float32 and tuple(sorted(tensor.shape)) in self._cast

    def _width(self, tensor: Tensor) -> str:
        base, last = self._base, tensor.shape[-1] if tensor.dim() else 1
        if base is None:
            return "tokens"
        by_heads = tensor.dim() == 4 and last == base.head_width
        keys = by_heads and tensor.shape[1] == base.kv_heads != base.heads
        if last == base.vocabulary:
            return "vocabulary"
        if last == base.inner:
            return "inner"
        if keys or last == base.kv != base.hidden:
            return "kv"
        return "hidden" if by_heads or last in (base.hidden, base.heads * base.head_width) else "tokens"


def _is_weight(tensor: Tensor) -> bool:
    """Whether a tensor is a weight or a view of one: FSDP2 gathers it from all processes, layer by layer."""
    whole = tensor if tensor._base is None else tensor._base
    return isinstance(whole, nn.Parameter)


class _Holder:
    """What autograd keeps in place of a tensor: it dies when autograd lets go."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def unpack(self) -> Tensor:
        """Give the tensor back."""
        return self.tensor
