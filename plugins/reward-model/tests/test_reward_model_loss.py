"""The formulas of reward modelling against hand-worked numbers, laws and problems with known solutions."""

import math

import pytest
import torch
from torch.testing import assert_close
from zoo_reward_model.loss import bradley_terry_loss, centering_penalty, soft_label_loss

from zoo_core.testing.tensors import noise

LOSSES = {
    "Bradley-Terry": bradley_terry_loss,
    "soft label": lambda chosen, rejected: soft_label_loss(chosen, rejected, torch.full_like(chosen, 0.7)),
    "centering": centering_penalty,
}


def value_and_gradients(loss, *scores):
    scores = [x.clone().requires_grad_() for x in scores]
    value = loss(*scores)
    value.backward()
    return value.detach(), *(x.grad for x in scores)


@pytest.mark.parametrize(
    ("difference", "loss", "slope"),
    [  # −log σ(d) and σ(d) − 1
        (0.0, 0.6931472, -0.5),
        (1.0, 0.3132617, -0.2689414),
        (-1.0, 1.3132617, -0.7310586),
        (2.0, 0.1269280, -0.1192029),
        (-200.0, 200.0, -1.0),  # log(1 + e²⁰⁰) would overflow
    ],
)
def test_bradley_terry_loss_and_gradient_at_a_difference(difference, loss, slope):
    chosen, rejected = torch.tensor([3.0 + difference]), torch.tensor([3.0])
    value, up, down = value_and_gradients(bradley_terry_loss, chosen, rejected)
    assert_close(value, torch.tensor(loss))
    assert_close(up, torch.tensor([slope]), rtol=1e-5, atol=1e-5)
    assert_close(down, torch.tensor([-slope]), rtol=1e-5, atol=1e-5)


def test_swapping_chosen_and_rejected_turns_the_gradient_to_its_complement():
    chosen, rejected = noise(8), noise(8, seed=1)
    _, gradient, _ = value_and_gradients(bradley_terry_loss, chosen, rejected)
    _, swapped, _ = value_and_gradients(bradley_terry_loss, rejected, chosen)
    assert_close(gradient + swapped, torch.full((8,), -1 / 8))  # σ(d) + σ(−d) = 1


@pytest.mark.parametrize("name", ["Bradley-Terry", "soft label"])
def test_preferences_say_nothing_about_the_level_of_the_scores(name):
    chosen, rejected = noise(8), noise(8, seed=1)
    value, up, down = value_and_gradients(LOSSES[name], chosen, rejected)
    assert_close(up, -down)
    assert_close(LOSSES[name](chosen + 2.0, rejected + 2.0), value)


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_is_the_mean_of_its_pairs(name):
    chosen, rejected = noise(8), noise(8, seed=1)
    pairs = [LOSSES[name](chosen[i : i + 1], rejected[i : i + 1]) for i in range(8)]
    assert_close(torch.stack(pairs).mean(), LOSSES[name](chosen, rejected))


def test_soft_label_loss_of_the_worked_example():
    # −[.6·log σ(.5) + .4·log σ(−.5)]
    actual = soft_label_loss(torch.tensor([1.7]), torch.tensor([1.2]), torch.tensor([0.6]))
    assert_close(actual, torch.tensor(0.67407698))


def test_soft_label_loss_is_flat_where_the_difference_is_the_log_odds():
    first, second = torch.tensor([0.40546511, 1.0]), torch.tensor([0.0, 1.0])
    labels = torch.tensor([0.6, 0.9])
    _, slope, _ = value_and_gradients(lambda a, b: soft_label_loss(a, b, labels), first, second)
    assert_close(slope, torch.tensor([0.0, (0.5 - 0.9) / 2]))


def test_certain_labels_make_the_soft_label_loss_bradley_terry():
    first, second = noise(8), noise(8, seed=1)
    assert_close(soft_label_loss(first, second, torch.ones(8)), bradley_terry_loss(first, second))
    assert_close(soft_label_loss(first, second, torch.zeros(8)), bradley_terry_loss(second, first))


def test_soft_label_loss_is_the_cross_entropy_to_a_softmax_over_both_scores():
    scores, labels = noise(8, 2), noise(8, seed=1).sigmoid()
    expected = torch.nn.functional.cross_entropy(scores, torch.stack([labels, 1 - labels], dim=1))
    assert_close(soft_label_loss(scores[:, 0], scores[:, 1], labels), expected)


def test_centering_penalty_is_the_mean_squared_sum_of_a_pair():
    # ((3 − 1)² + (0.5 + 1)²) / 2 = (4 + 2.25) / 2
    value, up, down = value_and_gradients(centering_penalty, torch.tensor([3.0, 0.5]), torch.tensor([-1.0, 1.0]))
    assert_close(value, torch.tensor(3.125))
    assert_close(up, torch.tensor([2.0, 1.5]))
    assert_close(down, up)


def descend(loss, start, steps=400, rate=1.0):
    point = start.clone().requires_grad_()
    for _ in range(steps):
        (slope,) = torch.autograd.grad(loss(point), point)
        point.data -= rate * slope
    return point.detach()


def test_scores_fitted_to_all_preferences_recover_their_log_odds():
    # Responses of worth 1, 2 and 6 are preferred 2 : 1, 6 : 1 and 3 : 1. So are the rows below.
    pairs = [(1, 0)] * 2 + [(0, 1)] + [(2, 0)] * 6 + [(0, 2)] + [(2, 1)] * 3 + [(1, 2)]
    chosen, rejected = torch.tensor(pairs).T
    start = torch.tensor([0.5, -0.2, 0.1], dtype=torch.double)
    scores = descend(lambda r: bradley_terry_loss(r[chosen], r[rejected]), start)
    expected = torch.tensor([1.0, 2.0, 6.0], dtype=torch.double).log()
    assert_close(scores - scores.mean(), expected - expected.mean(), atol=1e-6, rtol=0)
    assert_close(scores.mean(), start.mean())  # the level is nobody's business


def test_centering_settles_the_level_and_leaves_the_differences_alone():
    # One response preferred 2 : 1 over the other: difference log 2, mean 0.
    chosen, rejected = torch.tensor([[1, 0], [1, 0], [0, 1]]).T

    def loss(r):
        return bradley_terry_loss(r[chosen], r[rejected]) + 0.1 * centering_penalty(r[chosen], r[rejected])

    scores = descend(loss, torch.tensor([3.0, 5.0], dtype=torch.double))
    assert_close(scores, torch.tensor([-0.5, 0.5]).double() * math.log(2), atol=1e-6, rtol=0)


def test_a_linear_scorer_fitted_to_soft_labels_recovers_the_annotators_weights():
    first, second = noise(64, 3).double(), noise(64, 3, seed=1).double()
    truth = torch.tensor([1.0, -2.0, 0.5], dtype=torch.double)
    labels = ((first - second) @ truth).sigmoid()
    weights = descend(lambda w: soft_label_loss(first @ w, second @ w, labels), torch.zeros_like(truth))
    assert_close(weights, truth, atol=1e-6, rtol=0)


def test_the_loss_of_a_ranking_is_the_mean_over_its_pairs():
    # r = (2, 1, 0): differences 1, 2 and 1, so (2·.3132617 + .1269280) / 3
    chosen, rejected = torch.tensor([2.0, 2.0, 1.0]), torch.tensor([1.0, 0.0, 0.0])
    expected = (2 * math.log1p(math.exp(-1)) + math.log1p(math.exp(-2))) / 3
    assert_close(bradley_terry_loss(chosen, rejected), torch.tensor(expected))
