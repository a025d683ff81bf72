"""Which files of a folder are a model: what the hub is asked for, and what identities hash.

A model's card is none of them: it tells how long training took, and says nothing of what the model computes.
"""

from pathlib import Path

SUFFIXES = (".json", ".safetensors", ".jinja", ".txt", ".model")
"""Config, tokenizer, chat template and weights."""


def model_files(folder: Path) -> list[Path]:
    """Return the files of a model, sorted by name."""
    return [file for file in sorted(folder.iterdir()) if file.suffix in SUFFIXES and file.is_file()]
