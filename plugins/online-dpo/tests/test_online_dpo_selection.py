"""How online DPO makes pairs, against hand-worked examples and laws."""

import pytest
import torch
from zoo_online_dpo.selection import best_and_worst, differ

from zoo_core.testing.tensors import noise, prefix


def test_pairs_of_the_worked_example():
    # rows 0 to 2 and 3 to 5: the best are 1 and 3, the worst 2 and 4
    best, worst = best_and_worst(torch.tensor([0.5, 2.0, -1.0, 7.0, 3.0, 5.0]), 3)
    assert (best.tolist(), worst.tolist()) == ([1, 3], [2, 4])


def test_the_best_is_never_below_any_of_its_prompt_and_both_are_of_one_prompt():
    scores = noise(20)
    best, worst = best_and_worst(scores, 4)
    assert torch.equal(best // 4, torch.arange(5))
    assert torch.equal(worst // 4, torch.arange(5))
    assert (scores[best].unsqueeze(1) >= scores.view(5, 4)).all()
    assert (scores[worst].unsqueeze(1) <= scores.view(5, 4)).all()


def test_the_scale_of_scores_does_not_matter():
    scores = noise(20)
    for one, other in zip(best_and_worst(scores, 4), best_and_worst(0.01 * scores - 7.0, 4), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("scores", "tokens", "lengths", "teaches"),
    [
        ((1.0, 0.0), ((5, 6), (5, 7)), (2, 2), True),
        ((1.0, 1.0), ((5, 6), (5, 7)), (2, 2), False),  # a tie
        ((1.0, 0.0), ((5, 6), (5, 6)), (2, 2), False),  # the same tokens
        ((1.0, 0.0), ((5, 6), (5, 7)), (1, 1), False),  # the same tokens, and others after their ends
        ((1.0, 0.0), ((5, 6), (5, 6)), (2, 1), True),  # one is longer
    ],
)
def test_a_pair_teaches_if_its_scores_and_its_tokens_differ(scores, tokens, lengths, teaches):
    best, worst = torch.tensor([0]), torch.tensor([1])
    mask = prefix(*lengths, of=2)
    assert differ(torch.tensor(scores), torch.tensor(tokens), mask, best, worst).tolist() == [teaches]


def test_each_pair_is_judged_by_its_own_tokens():
    scores, tokens = torch.tensor([1.0, 0.0, 1.0, 0.0]), torch.tensor([[5, 6], [5, 7], [8, 8], [8, 8]])
    found = differ(scores, tokens, prefix(2, 2, 2, 2, of=2), torch.tensor([0, 2]), torch.tensor([1, 3]))
    assert found.tolist() == [True, False]
