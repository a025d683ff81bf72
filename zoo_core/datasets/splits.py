"""The split of prompts into train, dev and test, the same for every algorithm.

Prompts are split by the hash of their first user turn, so that no conversation is in two splits: 10 % test (fixed),
10 % of the rest dev (drawn by the seed). The others are trained on.
"""

import hashlib
from collections.abc import Sequence

from zoo_core.errors import DataError
from zoo_core.rows import DataRow, Text, canonical

TEST_SHARE = DEV_SHARE = 0.1


def split_of(prompt: Text, seed: int) -> str:
    """Return "test", "dev" or "train" for a prompt; test does not depend on the seed."""
    normal = _first_turn(prompt)
    if _hash(f"test\n{normal}") < TEST_SHARE:
        return "test"
    return "dev" if _hash(f"dev {seed}\n{normal}") < DEV_SHARE else "train"


def in_first_half(prompt: Text) -> bool:
    """Return whether a prompt falls into the first of two halves, by its first user turn."""
    return _hash(f"half\n{_first_turn(prompt)}") < 0.5


def _first_turn(prompt: Text) -> str:
    first = prompt if isinstance(prompt, str) else next((m["content"] for m in prompt if m["role"] == "user"), "")
    return " ".join(first.split()).lower()


def in_split(rows: Sequence[DataRow], split: str, seed: int, ref: str) -> list[DataRow]:
    """Return the rows of a split, in their order; `DataError` if there are none."""
    kept = [row for row in rows if (row.prompt == "" and split == "train") or split_of(row.prompt, seed) == split]
    if not kept:
        raise DataError(
            f"{ref}: none of its {len(rows)} rows falls into the {split} split (10 % of the prompts are kept for "
            "the test, 10 % for dev); give at least about 50 rows with different first turns."
        )
    return kept


def in_drawn_order(rows: Sequence[DataRow], seed: int) -> list[DataRow]:
    """Return rows in the order that a seed draws."""
    return sorted(rows, key=lambda row: _hash(f"{seed}\n{canonical(row)}"))


def _hash(text: str) -> float:
    """Return a number in [0, 1) that depends on the text only."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64
