"""RRHF passes the suite."""

from zoo_core.testing import AlgorithmSuite


class TestRRHF(AlgorithmSuite):
    name = "rrhf"
    settings = {"batch_size": 8, "samples": 2}
    updates = 30.0
    loops = 2
