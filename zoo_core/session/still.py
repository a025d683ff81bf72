"""Which tensors have not changed since the last checkpoint: frozen weights, mostly, under adapters or below a branch.

They are told by a sum that is computed where the tensor is. A change of one number always changes it, and any other
change does so but for one in 2^64; a flag on the tensor would miss what is written through `.data`.
"""

from collections.abc import Collection
from functools import cache
from pathlib import Path
from uuid import uuid4

import torch
from jaxtyping import Int
from torch import Tensor

CHUNK = 2**20
"""Numbers of eight bytes that are summed at once."""


class Still:
    """What the checkpoints of one run have written, by the place in their tree."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        """The folder of files with unchanged tensors; None for that of the checkpoint that is written."""
        self.sums: dict[str, int] = {}
        """The sums of the tensors at the last checkpoint; of those only that have never changed."""
        self.places: dict[str, str] = {}
        """The file that holds an unchanged tensor."""
        self.moved: set[str] = set()
        """Places whose tensors have changed once: they are trained."""
        self.next = new_name()
        """The name of the file that will hold those that are found now."""

    @property
    def files(self) -> set[str]:
        """The files that hold unchanged tensors."""
        return set(self.places.values())

    def look(self, place: str, tensor: Tensor) -> str | None:
        """Return the file that holds a tensor, or will hold it (`next`); None if it is to be written again."""
        if place in self.moved:
            return None
        now, before = digest(tensor), self.sums.get(place)
        self.sums[place] = now
        if before is None:
            return None
        if before != now:
            self.moved.add(place)
            del self.sums[place]
            self.places.pop(place, None)
            return None
        return self.places.get(place, self.next)

    def wrote(self, places: Collection[str]) -> None:
        """Note that the file `next` was written, with the tensors of these places."""
        self.places |= dict.fromkeys(places, self.next)
        self.next = new_name()


def new_name() -> str:
    """Return a name that no other file has."""
    return f"still-{uuid4().hex[:12]}.safetensors"


def digest(tensor: Tensor) -> int:
    """Return a sum over the bytes of a tensor with odd factors, modulo 2^64; form and type are not in it."""
    octets = tensor.detach().contiguous().flatten().view(torch.uint8)
    missing = -len(octets) % 8
    if missing:
        octets = torch.cat([octets, octets.new_zeros(missing)])
    words = octets.view(torch.int64)
    total = torch.zeros((), dtype=torch.int64, device=tensor.device)
    for number, chunk in enumerate(words.split(CHUNK)):
        total += (chunk * factors(tensor.device)[: len(chunk)]).sum() * (2 * number * 0x9E3779B9 + 1)
    return int(total)


@cache
def factors(device: torch.device) -> Int[Tensor, " chunk"]:
    """Return odd numbers of 63 bits, the same in every process."""
    drawn = torch.randint(0, 2**62, (CHUNK,), generator=torch.Generator().manual_seed(0))
    return (2 * drawn + 1).to(device)
