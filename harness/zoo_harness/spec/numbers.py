"""Numbers that a user may write in more than one way, or not at all."""

import math

TRIALS = "0 for none, or 2 and more: one trial has nothing to be compared with"
MOST_TRIALS = 1000


def trials_of(count: int) -> int:
    """Return a number of trials; `ValueError` for one that cannot be."""
    if count < 0 or count == 1 or count > MOST_TRIALS:
        raise ValueError(f"{count} trials cannot be; write {TRIALS}, up to {MOST_TRIALS}")
    return count


def share_of(value: object) -> float:
    """Return a share of the budget from a number or a fraction such as "1/4"; `ValueError` for what is none."""
    parts = value.split("/") if isinstance(value, str) else [value]
    try:
        numbers = [float(part) for part in parts if isinstance(part, (str, int, float))]
        share = numbers[0] / numbers[1] if len(parts) == 2 else numbers[0] if len(parts) == 1 else math.nan
    except (ValueError, ArithmeticError, IndexError):
        share = math.nan
    if not 0 < share < math.inf:
        raise ValueError(f"{value!r} is no share of the budget; write a number above 0, or a fraction such as 1/4")
    return share
