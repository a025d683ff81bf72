"""Seeds that depend on words: a resumed run repeats the numbers of the first."""

import hashlib
import random

import numpy as np
import torch


def derive(*words: object) -> int:
    """Return a 63-bit seed that depends on the words and on nothing else."""
    return int.from_bytes(hashlib.sha256(repr(words).encode()).digest()[:8]) >> 1


def seed_everything(seed: int, stage: str, moment: int | str) -> None:
    """Seed the global generators, so that dropout, initialisation and `generate` resume too."""
    value = derive(seed, stage, moment)
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.manual_seed(value)
