"""How long the command takes to say anything."""

import subprocess
import sys
from pathlib import Path

import pytest
from measure import spread


@pytest.mark.parametrize("words", [["--help"], ["plugins", "list"]], ids=" ".join)
def test_the_command_answers(words, benchmark, record):
    zoo = Path(sys.executable).with_name("zoo")
    benchmark.pedantic(
        lambda: subprocess.run([zoo, *words], check=True, capture_output=True), rounds=15, warmup_rounds=1
    )
    record("start", " ".join(["zoo", *words]), seconds=spread(benchmark.stats.stats.data))
