"""Models from a shared folder: `base: shelf:NAME`."""

import os
from pathlib import Path

from zoo_core.errors import ModelError
from zoo_core.hookspecs import hookimpl


@hookimpl
def zoo_load_model(ref: str) -> Path | None:
    """Return the directory of a model on the shelf."""
    prefix, colon, name = ref.partition(":")
    if prefix != "shelf" or not colon:
        return None  # the reference of another plugin
    folder = Path(os.environ.get("MODEL_SHELF", "/models")) / Path(name).name
    if not (folder / "config.json").is_file():
        raise ModelError(f"{ref}: there is no model in {folder}. Put one there, or set $MODEL_SHELF.")
    return folder
