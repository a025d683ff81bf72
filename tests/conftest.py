"""What the comparisons with TRL share."""

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def run_trl():
    """A function that returns what a script prints that runs beside a version of TRL, of what is in a folder."""

    def run(version, script, folder):
        python = ROOT / ".parity" / f"trl-{version}" / "bin" / "python"
        if not python.exists():
            pytest.skip(f"{python} is not there; `make parity` builds it")
        done = subprocess.run(
            [python, ROOT / "tests" / "parity" / script, folder],
            capture_output=True, text=True, check=False, cwd=folder, env={**os.environ, "HF_HOME": str(folder)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run
