"""Settings of every test process, made before anything heavy is imported."""

import os
from pathlib import Path

from jaxtyping import install_import_hook

ROOT = Path(__file__).parent

# One thread: the other cores belong to other processes, and OpenMP threads waiting for a busy core spin. No
# network: a test that needs a hub would pass on some machines only.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


def modules_with_shapes() -> list[str]:
    """Return the modules of this repository whose annotations say shapes."""
    packages = [init.parent for init in (*ROOT.glob("zoo_*/__init__.py"), *ROOT.glob("*/zoo_*/__init__.py"))]
    packages += [init.parent for init in ROOT.glob("*/*/zoo_*/__init__.py")]
    sources = [(package, source) for package in packages for source in sorted(package.rglob("*.py"))]
    return [
        ".".join(source.relative_to(package.parent).with_suffix("").parts)
        for package, source in sources
        if "\nfrom jaxtyping import " in source.read_text()
    ]


# Shapes are enforced while testing, and nowhere else: a wrapper around each function of the meter, say, which makes a
# function for each layer of each forward pass, took a third of the time of the tests.
install_import_hook(modules_with_shapes(), "beartype.beartype")
