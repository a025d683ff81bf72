"""RLAIF passes the suite, recovers a judge's ranking from its labels, and learns what the judge likes."""

from zoo_core.testing import AlgorithmSuite


class TestRLAIF(AlgorithmSuite):
    name = "rlaif"
    settings = {
        "pairs": 16,
        "pairs_per_update": 8,
        "label_share": 1.0,
        "reward_epochs": 1.0,
        "reward_batch_size": 8,
        "reward_share": 1.0,
        "batch_size": 32,
    }
    updates = 120.0
    loops = 3


class TestDirectRLAIF(AlgorithmSuite):
    name = "d-rlaif"
    settings = {"batch_size": 32}
    updates = 2.3


class TestCAI(AlgorithmSuite):
    name = "cai"
    settings = {
        "revised_prompts": 8,
        "prompts_per_update": 8,
        "pairs": 8,
        "pairs_per_update": 8,
        "reward_epochs": 1.0,
        "reward_batch_size": 8,
        "batch_size": 32,
        "revise_share": 1.0,
        "tuning_share": 1.0,
        "label_share": 1.0,
        "reward_share": 1.0,
    }
    updates = 140.0
    loops = 5
