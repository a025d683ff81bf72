"""The selection of a core set, as pure functions.

Chen et al. 2023, "Maybe Only 0.5 % Data is Needed", arXiv:2305.09246, as we read its abstract; algorithm 1 refers to
Sener and Savarese 2018, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", arXiv:1708.00489.

Shapes: N rows, S tokens, D dimensions of an embedding. Distances are Euclidean; between unit vectors ‖u − v‖² =
2 − 2 cos(u, v), so that the cosine would order them alike.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn.functional import normalize


class Regions(NamedTuple):
    """Clusters of rows."""

    labels: Int[Tensor, " N"]
    """The region of each row, from 0."""
    flops: int
    """FLOPs of the distances to the centres."""


class Pick(NamedTuple):
    """A selected row, and the reason."""

    row: int
    region: int
    distance: float | None
    """Distance to the nearest row picked before; None for the first row, which is nearest to the region's centre."""


def embed(hidden: Float[Tensor, "N S D"], attention: Bool[Tensor, "N S"]) -> Float[Tensor, "N D"]:
    """Return unit vectors: the mean of the hidden states of real tokens over its L2 norm.

    e = h̄ / ‖h̄‖   with   h̄ = (1/n) Σ hₜ over the n real tokens

    It is computed from the sum, which has the same direction.
    """
    return normalize(hidden.float().masked_fill(~attention.unsqueeze(-1), 0.0).sum(1))


def find_regions(points: Float[Tensor, "N D"], count: int, seed: int) -> Regions:
    """Divide points by k-means into `count` regions, or fewer if there are fewer distinct points.

    minimise Σᵢ ‖eᵢ − centre of its region‖²
    """
    clusters = min(count, len(points.unique(dim=0)))
    found = KMeans(clusters, random_state=seed).fit(points.numpy())
    # Each step computes N·K distances of 3·D operations; k-means++ before it as many for 2 + ln K trials.
    steps = found.n_iter_ + 2 + int(math.log(clusters))
    return Regions(torch.from_numpy(found.labels_), 3 * points.numel() * clusters * steps)


def shares(sizes: list[int], total: int) -> list[int]:
    """Divide `total` among regions of these sizes, in proportion: exactly, and each within one row of its part.

    qᵣ = ⌊Q nᵣ₊ / N⌋ − ⌊Q nᵣ₋ / N⌋   with   nᵣ₋, nᵣ₊ = rows before the region, and to its end
    """
    ends = [sum(sizes[:region]) * total // sum(sizes) for region in range(len(sizes) + 1)]
    return [end - start for start, end in pairwise(ends)]


def k_center_greedy(points: Float[Tensor, "N D"], count: int, start: int) -> tuple[list[int], list[float]]:
    """Pick up to `count` points one by one, each the farthest from those picked (K-Center-Greedy, algorithm 1).

    u = argmaxᵢ min_{j picked} ‖eᵢ − eⱼ‖

    Returns the picks and the covering radius after each: the distance of the point that is then farthest from all
    picks, at most twice the best possible. The list ends early if every point coincides with a pick.
    """
    picks, radii = [start], []
    distances = (points - points[start]).norm(dim=1)
    while True:
        radii.append(distances.max().item())
        if len(picks) == count or radii[-1] == 0.0:
            return picks, radii
        picks.append(int(distances.argmax()))
        distances = distances.minimum((points - points[picks[-1]]).norm(dim=1))


def covering_radius(points: Float[Tensor, "N D"], picks: list[int]) -> float:
    """Return the distance to the picks of the point that is farthest from them: maxᵢ min_{j picked} ‖eᵢ − eⱼ‖."""
    return torch.stack([(points - points[pick]).norm(dim=1) for pick in picks]).amin(0).max().item()


def core_set(points: Float[Tensor, "N D"], labels: Int[Tensor, " N"], total: int) -> list[Pick]:
    """Run K-Center-Greedy inside each region for its share of `total`, from the point nearest to the region's mean."""
    selected = []
    regions = [(labels == region).nonzero().flatten() for region in labels.unique()]
    counts = shares([len(rows) for rows in regions], total)
    for region, (rows, count) in enumerate(zip(regions, counts, strict=True)):
        if count:
            start = int((points[rows] - points[rows].mean(0)).norm(dim=1).argmin())
            picks, radii = k_center_greedy(points[rows], count, start)
            distances = [None, *radii]  # a pick is as far away as the radius was before it
            selected += [Pick(int(rows[pick]), region, far) for pick, far in zip(picks, distances, strict=False)]
    return selected
