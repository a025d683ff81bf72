"""How often a ranking rule separates equal rows, and how often it sees a difference: python tests/power.py

Boards of eight rows are drawn with a shared effect per seed (what pairing removes) and errors of several kinds. A rule
turns a board into separated pairs; all of them are corrected for all pairs. Two figures matter:

- error: the share of boards of equal rows on which any pair is separated; a rule that claims 5 % must hold 5 % under
  every kind of error;
- power: how often a row that is better by 1, 2 or 3 standard deviations of one row's error is separated from another.
"""

import sys
from collections.abc import Callable
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.special import polygamma, stdtr
from scipy.stats import studentized_range
from zoo_leaderboard.statistics import pair_variances

Array = NDArray[np.float64]
ROWS, LEVEL = 8, 0.05
PAIRS = np.array(list(combinations(range(ROWS), 2)))


def errors(kind: str, boards: int, seeds: int, rng: np.random.Generator) -> Array:
    """Return errors of shape [boards, ROWS, seeds] with mean 0; of unit variance but for "sd ratio 3"."""
    shape = (boards, ROWS, seeds)
    if kind == "equal":
        return rng.standard_normal(shape)
    if kind == "sd ratio 3":  # half of the rows three times as noisy as the others
        return rng.standard_normal(shape) * np.where(np.arange(ROWS) % 2, 3.0, 1.0)[None, :, None]
    if kind == "one noisy":
        return rng.standard_normal(shape) * np.where(np.arange(ROWS) == 0, 3.0, 1.0)[None, :, None]
    if kind == "skewed":
        return rng.exponential(size=shape) - 1.0
    if kind == "heavy tails":
        return rng.standard_t(3, size=shape) / np.sqrt(3.0)
    if kind == "stage effect":  # half of the rows share a stage, whose quality differs from seed to seed
        return (
            rng.standard_normal(shape) + 2.0 * rng.standard_normal((boards, 1, seeds)) * (np.arange(ROWS) % 2)[:, None]
        )
    raise ValueError(kind)


KINDS = ("equal", "sd ratio 3", "one noisy", "skewed", "heavy tails", "stage effect")


def holm(p: Array) -> Array:
    """Adjust p-values [boards, pairs] by Holm's rule."""
    order = np.argsort(p, axis=1)
    ranked = np.take_along_axis(p, order, 1) * np.arange(p.shape[1], 0, -1)
    adjusted = np.minimum(np.maximum.accumulate(ranked, axis=1), 1.0)
    found = np.empty_like(adjusted)
    np.put_along_axis(found, order, adjusted, 1)
    return found


def differences(board: Array) -> Array:
    """Return paired differences [boards, pairs, seeds]."""
    return board[:, PAIRS[:, 0]] - board[:, PAIRS[:, 1]]


def plain(board: Array) -> Array:
    """Paired t, n - 1 degrees of freedom, Holm over all pairs: what the board did first."""
    d, n = differences(board), board.shape[2]
    t = d.mean(2) / np.sqrt(d.var(2, ddof=1) / n)
    return holm(2 * stdtr(n - 1, -np.abs(t)))


def squeezed(variances: Array, freedom: float) -> tuple[Array, Array]:
    """Return limma's moderated variances [boards, m] and their degrees of freedom (Smyth 2004, section 6.2)."""
    z = np.log(variances)
    e = z - polygamma(0, freedom / 2) + np.log(freedom / 2)
    spread = e.var(1, ddof=1) - polygamma(1, freedom / 2)
    prior = np.full(len(z), np.inf)
    wide = spread > 0
    prior[wide] = 2 * _trigamma_inverse(spread[wide])
    level = np.empty(len(z))
    level[wide] = np.exp(e.mean(1)[wide] + polygamma(0, prior[wide] / 2) - np.log(prior[wide] / 2))
    level[~wide] = variances.mean(1)[~wide]
    with np.errstate(invalid="ignore"):
        weight = np.where(np.isinf(prior), 1.0, prior / (prior + freedom))[:, None]
    # No more degrees of freedom than all variances together have.
    return weight * level[:, None] + (1 - weight) * variances, np.minimum(prior + freedom, freedom * variances.shape[1])


def _trigamma_inverse(y: Array) -> Array:
    x = 0.5 + 1 / y
    for _ in range(50):
        x = x + polygamma(1, x) * (1 - polygamma(1, x) / y) / polygamma(2, x)
    return x


def moderated_pairs(board: Array) -> Array:
    """Limma over the variances of the pairs."""
    d, n = differences(board), board.shape[2]
    variances, freedom = squeezed(d.var(2, ddof=1), n - 1)
    t = d.mean(2) / np.sqrt(variances / n)
    return holm(2 * stdtr(freedom[:, None], -np.abs(t)))


def mixed_model(board: Array) -> Array:
    """Rows and seeds as a two-way layout with one residual variance; Tukey's range."""
    k, n = board.shape[1:]
    residual = board - board.mean(2, keepdims=True) - board.mean(1, keepdims=True) + board.mean((1, 2), keepdims=True)
    variance = (residual**2).sum((1, 2)) / ((k - 1) * (n - 1))
    q = np.abs(differences(board).mean(2)) / np.sqrt(variance / n)[:, None]
    return range_p(q, n)


def cautious(board: Array) -> Array:
    """Return p of the board's own rule: variances that pairs lend to each other, Tukey's range, the pair's own t."""
    d, n = differences(board), board.shape[2]
    own = d.var(2, ddof=1)
    variances = pair_variances(own, PAIRS[:, 0], PAIRS[:, 1], ROWS, n)
    q = np.abs(d.mean(2)) / np.sqrt(variances / 2 / n)
    t = np.abs(d.mean(2)) / np.sqrt(own / n)
    return np.maximum(range_p(q, n), 2 * stdtr(n - 1, -t))


def range_p(q: Array, seeds: int) -> Array:
    """Return p of the studentised range: read off a fine table, since each value takes milliseconds."""
    grid = np.concatenate([np.linspace(0, 12, 241), np.linspace(13, 200, 60)])
    table = studentized_range.sf(grid, ROWS, (ROWS - 1) * (seeds - 1))
    return np.interp(q, grid, table)


def bootstrap(board: Array, draws: int = 999) -> Array:
    """Studentised bootstrap over seeds, the largest t of all pairs (single step)."""
    d, n = differences(board), board.shape[2]
    rng = np.random.default_rng(0)
    t = np.abs(d.mean(2)) / np.sqrt(d.var(2, ddof=1) / n)
    centred = d - d.mean(2, keepdims=True)
    largest = np.empty((len(d), draws))
    for draw in range(draws):
        drawn = centred[:, :, rng.integers(0, n, n)]
        spread = np.sqrt(drawn.var(2, ddof=1) / n)
        with np.errstate(divide="ignore", invalid="ignore"):
            largest[:, draw] = np.nan_to_num(np.abs(drawn.mean(2)) / spread, nan=0.0, posinf=np.inf).max(1)
    return (1 + (largest[:, None, :] >= t[:, :, None]).sum(2)) / (draws + 1)


RULES: dict[str, Callable[[Array], Array]] = {
    "paired t, Holm": plain,
    "moderated t (limma), Holm": moderated_pairs,
    "seeds as blocks, Tukey": mixed_model,
    "studentised bootstrap": bootstrap,
    "the board's": cautious,
}


def error(rule: Callable[[Array], Array], kind: str, seeds: int, boards: int, rng: np.random.Generator) -> float:
    """Return the share of boards of equal rows on which any pair is separated."""
    board = errors(kind, boards, seeds, rng) + 2.0 * rng.standard_normal((boards, 1, seeds))
    return float((rule(board) < LEVEL).any(1).mean())


def power(rule: Callable[[Array], Array], gap: float, seeds: int, boards: int, rng: np.random.Generator) -> float:
    """Return how often a row that is better by `gap` standard deviations is separated from another, over all others."""
    board = errors("equal", boards, seeds, rng) + 2.0 * rng.standard_normal((boards, 1, seeds))
    board[:, 0] += gap
    return float((rule(board)[:, PAIRS[:, 0] == 0] < LEVEL).mean())


def main(boards: int = 4000) -> None:
    """Print a table for 3, 5 and 10 seeds."""
    for seeds in (3, 5, 10):
        print(f"\n{seeds} seeds, {ROWS} rows, {boards} boards\n")
        print(f"| rule | {' | '.join(f'error: {kind}' for kind in KINDS)} | power 1 sd | 2 sd | 3 sd |")
        print("|---|" + "---|" * (len(KINDS) + 3))
        for name, rule in RULES.items():
            many = boards // 8 if rule is bootstrap else boards
            rng = np.random.default_rng(1)
            wrong = [error(rule, kind, seeds, many, rng) for kind in KINDS]
            seen = [power(rule, gap, seeds, many, rng) for gap in (1.0, 2.0, 3.0)]
            cells = [f"{value:.1%}" for value in wrong] + [f"{value:.0%}" for value in seen]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
