"""What every algorithm must pass, and the loss by hand."""

import torch
from zoo_hello.loss import margin_loss

from zoo_core.testing.suite import AlgorithmSuite


class TestHello(AlgorithmSuite):
    """Learns from its signals only, keeps to the budget, resumes to the same bits, ignores padding, ..."""

    name = "hello"
    settings = {"batch_size": 8}


def test_a_pair_costs_what_is_missing_to_the_margin():
    # 1 − (−2) + (−4) < 0, and 1 − (−3) + (−3.5) = .5: the mean is .25.
    loss = margin_loss(torch.tensor([-2.0, -3.0]), torch.tensor([-4.0, -3.5]), margin=1.0)
    assert loss == 0.25
