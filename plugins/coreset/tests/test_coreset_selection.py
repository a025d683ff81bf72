"""How core sets are selected, against hand-worked numbers, brute force and laws."""

import math
import warnings
from itertools import combinations

import pytest
import torch
from torch.testing import assert_close
from zoo_coreset.selection import Pick, core_set, covering_radius, embed, find_regions, k_center_greedy, shares

from zoo_core.testing.tensors import noise

LINE = torch.tensor([[0.0], [1.0], [2.0], [9.0], [10.0], [4.5]])
CORNERS = torch.tensor([[0.0, 0.0], [0.0, 8.0], [8.0, 0.0], [8.0, 8.0]])


def unit(points):
    return points / points.norm(dim=1, keepdim=True)


def planted(each=10):
    """Return points close around four corners, one corner after the other."""
    return CORNERS.repeat_interleave(each, 0) + 0.1 * noise(4 * each, 2)


def test_an_embedding_is_the_mean_of_real_tokens_scaled_to_length_1():
    # The mean of (4, 0) and (2, 8) is (3, 4), of length 5.
    hidden = torch.tensor([[[4.0, 0.0], [2.0, 8.0]], [[0.0, -2.0], [100.0, 100.0]]])
    attention = torch.tensor([[True, True], [True, False]])
    assert_close(embed(hidden, attention), torch.tensor([[0.6, 0.8], [0.0, -1.0]]))


@pytest.mark.parametrize("garbage", [0.0, 1e6, math.nan])
def test_an_embedding_does_not_see_padding_on_either_side(garbage):
    hidden, attention = noise(3, 4, 5), torch.ones(3, 4, dtype=torch.bool)
    for sides in [(2, 0), (0, 3), (1, 1)]:
        wide = torch.nn.functional.pad(hidden, (0, 0, *sides), value=garbage)
        assert_close(embed(wide, torch.nn.functional.pad(attention, sides)), embed(hidden, attention))


def test_embeddings_of_half_precision_are_pooled_in_single_precision():
    # 4,096 times 1 is 4,096, but bfloat16 cannot count beyond 256 by ones.
    hidden = torch.ones(1, 4096, 2, dtype=torch.bfloat16) * torch.tensor([1.0, 0.5], dtype=torch.bfloat16)
    embedding = embed(hidden, torch.ones(1, 4096, dtype=torch.bool))
    assert embedding.dtype == torch.float32
    assert_close(embedding, torch.tensor([[2.0, 1.0]]) / math.sqrt(5))


def test_the_farthest_point_is_picked_next_and_the_radius_after_each_pick_is_told():
    # From 0 the farthest is 10; then 4.5 lies 4.5 from 0; then 2 lies 2 from 0; at last 1 and 9 lie 1 away.
    assert k_center_greedy(LINE, 4, start=0) == ([0, 4, 5, 2], [10.0, 4.5, 2.0, 1.0])


@pytest.mark.parametrize(("count", "best"), [(2, 2.5), (3, 1.0)])
def test_the_radius_is_at_most_twice_the_best_of_all_subsets(count, best):
    assert min(covering_radius(LINE, list(picks)) for picks in combinations(range(6), count)) == best
    for start in range(6):
        assert k_center_greedy(LINE, count, start)[1][-1] <= 2 * best


def test_radii_never_rise_and_are_the_covering_radii_of_the_picks():
    points = noise(30, 3)
    picks, radii = k_center_greedy(points, 12, start=7)
    assert sorted(radii, reverse=True) == radii
    assert radii == [covering_radius(points, picks[: number + 1]) for number in range(12)]
    by_hand = max(min(math.dist(point, points[pick].tolist()) for pick in picks) for point in points.tolist())
    assert radii[-1] == pytest.approx(by_hand, rel=1e-6)


def test_rotation_translation_and_the_order_of_the_points_change_no_pick():
    points = noise(20, 3)
    picks, radii = k_center_greedy(points, 8, start=3)
    rotation = torch.linalg.qr(noise(3, 3, seed=1)).Q
    moved = k_center_greedy(points @ rotation + 5.0, 8, start=3)
    assert moved[0] == picks
    assert moved[1] == pytest.approx(radii, rel=1e-4)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(2))
    permuted = k_center_greedy(points[order], 8, start=order.tolist().index(3))
    assert (order[permuted[0]].tolist(), permuted[1]) == (picks, radii)


def test_on_unit_vectors_the_cosine_picks_the_same():
    points = unit(noise(40, 4))
    picks, closest = [0], points @ points[0]
    while len(picks) < 10:
        picks.append(int(closest.argmin()))
        closest = closest.maximum(points @ points[picks[-1]])
    assert k_center_greedy(points, 10, start=0)[0] == picks


def test_as_many_picks_as_points_select_them_all():
    picks, radii = k_center_greedy(LINE, 6, start=2)
    assert sorted(picks) == list(range(6))
    assert radii[-1] == 0.0


def test_nothing_is_picked_twice_once_every_point_coincides_with_a_pick():
    assert k_center_greedy(LINE.repeat(3, 1), 18, start=0)[1] == [10.0, 4.5, 2.0, 1.0, 1.0, 0.0]
    assert k_center_greedy(torch.ones(4, 2), 3, start=1) == ([1], [0.0])


def test_of_planted_clusters_as_many_picks_as_clusters_take_one_of_each():
    picks, radii = k_center_greedy(planted(), 4, start=0)
    assert sorted(pick // 10 for pick in picks) == [0, 1, 2, 3]
    assert radii[-1] < 1.0


def test_the_covering_radius_is_the_distance_of_the_worst_served_point():
    radius = covering_radius(LINE, [0, 4])
    assert (radius, type(radius)) == (4.5, float)
    assert covering_radius(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), [0]) == 5.0


def test_shares_are_proportional_and_sum_up_exactly():
    assert shares([50, 30, 20], 10) == [5, 3, 2]
    assert shares([7], 3) == [3]
    # ends at 0, 1, 2, 3 of 3 rows are at 0, 2/3, 4/3, 2 of the total: cut to 0, 0, 1, 2
    assert shares([1, 1, 1], 2) == [0, 1, 1]
    for total in range(61):
        sizes = [11, 1, 23, 0, 4, 21]
        parts = shares(sizes, total)
        assert sum(parts) == total
        assert all(abs(part - total * size / 60) < 1 for part, size in zip(parts, sizes, strict=True))
        assert all(part <= size for part, size in zip(parts, sizes, strict=True))


def test_regions_are_the_planted_clusters_whatever_the_seed():
    for seed in range(3):
        labels = find_regions(planted(), 4, seed).labels.view(4, 10)
        assert (labels == labels[:, :1]).all()
        assert sorted(labels[:, 0].tolist()) == [0, 1, 2, 3]


def test_regions_depend_on_the_seed_and_on_nothing_else():
    points = noise(60, 3)
    torch.manual_seed(0)
    once = find_regions(points, 8, seed=0)
    torch.manual_seed(1)
    again, other = find_regions(points, 8, seed=0), find_regions(points, 8, seed=1)
    assert torch.equal(once.labels, again.labels)
    assert not torch.equal(once.labels, other.labels)


def test_there_are_no_more_regions_than_distinct_points():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        labels = find_regions(torch.tensor([[1.0, 2.0], [1.0, 2.0], [3.0, 4.0]]), 8, seed=0).labels
    assert labels.max() == 1
    assert labels[0] == labels[1] != labels[2]


def test_the_distances_of_k_means_are_charged_step_by_step():
    # 40 points, 2 coordinates, 4 centres, 3 operations for each; k-means++ with 2 + ⌊ln 4⌋ = 3 trials. With clusters
    # so clear Lloyd's algorithm moves the centres once and sees in the second step that nothing changes.
    assert find_regions(planted(), 4, seed=0).flops == 3 * 40 * 2 * 4 * (2 + 3)


def test_each_region_gets_its_share_beginning_at_its_centre():
    # Region 0: 0, 1, 2, mean 1. Region 1: 10, 20, 24, mean 18; nearest is 20, then 10 lies 10 away.
    points = torch.tensor([[0.0], [10.0], [1.0], [20.0], [2.0], [24.0]])
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    picks = core_set(points, labels, 4)
    assert picks == [Pick(2, 0, None), Pick(0, 0, 1.0), Pick(3, 1, None), Pick(1, 1, 10.0)]
    assert {type(pick.row) for pick in picks} == {int}


def test_a_region_whose_share_is_nothing_gives_nothing():
    picks = core_set(LINE, torch.tensor([0, 1, 1, 1, 1, 1]), 2)
    assert [pick.region for pick in picks] == [1, 1]


def test_a_core_set_covers_better_than_as_many_points_drawn_at_random():
    points = unit(noise(300, 4))
    picks = [pick.row for pick in core_set(points, find_regions(points, 6, seed=0).labels, 60)]
    assert len(set(picks)) == 60
    order = [torch.randperm(300, generator=torch.Generator().manual_seed(seed))[:60].tolist() for seed in range(20)]
    assert covering_radius(points, picks) < min(covering_radius(points, one) for one in order)
