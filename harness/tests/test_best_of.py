"""The best of n: exact distribution, divergence, and an estimate that brute force confirms."""

import math
from itertools import combinations, pairwise

import pytest
from zoo_harness.jobs.best_of import distribution, expected_value, kl_bound

PROBABILITIES, REWARDS = (0.4, 0.3, 0.2, 0.1), (0.0, 1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("n", "expected", "reward", "divergence"),
    # F = .4, .7, .9, 1; squared .16, .49, .81, 1, so .16, .33, .32, .19; to the fourth .0256, .2401, .6561, 1
    [(2, (0.16, 0.33, 0.32, 0.19), 1.54, 0.157199), (4, (0.0256, 0.2145, 0.416, 0.3439), 2.0782, 0.587114)],
)
def test_the_exact_distribution_of_the_best_of_n(n, expected, reward, divergence):
    found = distribution(PROBABILITIES, n)
    assert found == pytest.approx(expected)
    assert sum(p * r for p, r in zip(found, REWARDS, strict=True)) == pytest.approx(reward)
    kl = sum(q * math.log(q / p) for q, p in zip(found, PROBABILITIES, strict=True))
    assert kl == pytest.approx(divergence, abs=1e-6)
    assert kl < kl_bound(n), "ties are what the bound leaves out"


def test_the_best_of_one_is_a_sample():
    assert distribution(PROBABILITIES, 1) == pytest.approx(PROBABILITIES)
    assert kl_bound(1) == 0.0
    assert expected_value([1.0, 5.0, 9.0], 1) == pytest.approx(5.0)


@pytest.mark.parametrize(("n", "bound"), [(2, 0.193147), (4, 0.636294), (8, 1.204442), (16, 1.835089)])
def test_the_bound_on_the_divergence(n, bound):
    assert kl_bound(n) == pytest.approx(bound, abs=1e-6)


def test_more_samples_never_lower_the_expected_score():
    means = [sum(p * r for p, r in zip(distribution(PROBABILITIES, n), REWARDS, strict=True)) for n in range(1, 20)]
    assert all(later > earlier for earlier, later in pairwise(means))


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_the_best_of_n_uniform_scores_is_n_over_n_plus_one(n):
    fine = distribution([1e-3] * 1000, n)
    mean = sum(p * (i + 0.5) / 1000 for i, p in enumerate(fine))
    assert mean == pytest.approx(n / (n + 1), abs=1e-3)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_the_estimate_is_the_mean_over_all_subsets(n):
    golds = [0.3, -1.0, 2.0, 0.5, 0.1]  # in ascending order of proxy: the proxy errs
    subsets = list(combinations(range(5), n))
    assert expected_value(golds, n) == pytest.approx(sum(golds[max(subset)] for subset in subsets) / len(subsets))


@pytest.mark.parametrize("n", [0, 4])
def test_more_than_was_sampled_cannot_be_estimated(n):
    with pytest.raises(ValueError, match=f"n={n} cannot be estimated from 3 samples"):
        expected_value([1.0, 2.0, 3.0], n)
