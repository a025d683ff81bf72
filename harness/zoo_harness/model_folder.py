"""The folder of a model that a person names: looked at before anything takes time, and filled whole or not at all."""

import shutil
import tempfile
from pathlib import Path
from uuid import uuid4

from zoo_core.errors import ModelError, StorageError
from zoo_core.models.files import SUFFIXES
from zoo_core.storage.yaml_files import parse_yaml

TAG = "rlhf-zoo"
"""What the model card of every model that the zoo trained is tagged with."""
WHERE = "`zoo train` prints where its model is; `zoo bench` keeps them in OUTPUT/cells/ROW-seedN/final."


def check(path: Path) -> None:
    """Raise `ModelError` if this can be no model's folder; what is in the files is looked at when they are read."""
    if not path.exists():
        raise ModelError(f"{path}: there is no such directory (looked in {Path.cwd()}). {WHERE}")
    if not path.is_dir():
        raise ModelError(
            f"{path}: this is a file, and a model must be a directory (config.json, model.safetensors, tokenizer.json)."
        )
    if (path / "bench.json").is_file():
        inside = next(iter(sorted(path.glob("cells/*/final"))), None)
        instead = f"name one of its models, as {inside}" if inside else "it holds no trained model yet"
        raise ModelError(f"{path}: this is the folder of a bench; {instead}.")
    if (path / "final").is_dir():
        raise ModelError(f"{path}: this is the folder of a training; its model is {path / 'final'}.")
    if not any(path.iterdir()):
        raise ModelError(f"{path}: the folder is empty. {WHERE}")
    if not (path / "config.json").is_file() and not any(path.glob("*.safetensors")):
        raise ModelError(
            f"{path}: has no config.json and no *.safetensors weights, so it is no model's folder. {WHERE}"
        )


def check_place(folder: Path) -> None:
    """Raise `StorageError` unless a model can be put there: before it is trained, not after."""
    try:
        if folder.resolve() in (Path.cwd(), *Path.cwd().parents):
            raise StorageError(f"--model {folder}: this is where you are. Name a folder of the model's own.")
        if folder.exists() and not folder.is_dir():
            raise StorageError(f"--model {folder}: this is a file. Name a folder that is not there yet, or is empty.")
        if folder.exists() and any(folder.iterdir()) and not _is_ours(folder):
            raise StorageError(
                f"--model {folder}: the folder holds files that are no model of `zoo train`, which would be lost. "
                "Name a folder that is not there yet, or is empty, or move these files away."
            )
        folder.resolve().parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder.resolve().parent).close()
    except OSError as error:
        raise StorageError(f"--model {folder}: cannot be made or read ({error}). Name another folder.") from None


def put(trained: Path, folder: Path) -> None:
    """Copy a trained model to the folder that was named, whole or not at all; `trained` itself stays."""
    place = folder.resolve()
    new, old = (place.with_name(f".{place.name}.{uuid4().hex}.{word}") for word in ("new", "old"))
    try:
        shutil.copytree(trained, new, copy_function=shutil.copyfile)  # with modes of its own, as the umask says
        if place.is_dir() and any(place.iterdir()):
            place.rename(old)
        try:
            new.rename(place)
        except OSError:
            if old.exists():
                old.rename(place)
            raise
    except (OSError, shutil.Error) as error:
        shutil.rmtree(new, ignore_errors=True)
        raise StorageError(
            f"--model {folder}: the model cannot be copied there ({error}). It is whole in {trained}; copy it from "
            "there, or run the same command with another folder: it is not trained again."
        ) from None
    shutil.rmtree(old, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    """Whether `put` filled this folder: its card says so, and there is nothing in it but a model's files."""
    if not all(file.is_file() and file.suffix in (*SUFFIXES, ".md") for file in folder.iterdir()):
        return False
    try:
        front = (folder / "README.md").read_text(encoding="utf-8").split("---\n")[1]
        card = parse_yaml(front, "README.md")
    except Exception:  # no card, or one that somebody else wrote
        return False
    return isinstance(card, dict) and TAG in (card.get("tags") or [])
