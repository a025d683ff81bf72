"""Turning a dial: rates between 0 and 1, moved so that their mean is another."""

from collections.abc import Mapping


def moved(rates: Mapping[float, float], mean: float | None) -> list[float]:
    """Return the rates of a table of rates and their shares, moved until their mean is `mean`; None moves nothing.

    All move by the same share of their way to 1, or to 0, so that they keep their order and stay within both.
    """
    now = sum(rate * share for rate, share in rates.items())
    if mean is None or mean == now:
        return list(rates)
    if mean < now:
        return [rate * mean / now for rate in rates]
    return [rate + (1 - rate) * (mean - now) / (1 - now) for rate in rates]
