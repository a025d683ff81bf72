"""Strict loading: a file must hold every weight of the architecture, and no other.

Transformers draws missing weights at random, anew in every process, ignores unknown ones, and only warns of both. Here
they are errors.
"""

import contextlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, GenerationConfig, PreTrainedModel

from zoo_core.errors import ModelError
from zoo_core.models.attention import attention_for, class_of

NAMED = 3
"""Number of weights that a message names. It only counts the others."""
SAFE: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
Shapes = tuple[str, Iterable[int], Iterable[int]]
"""The name of a weight, its shape in the file, and its shape in the model."""


def pretrained(auto: Any, path: Path) -> PreTrainedModel:
    """Read a directory as a model of this auto class; `ModelError` unless all its weights fit."""
    attention = attention_for(auto, AutoConfig.from_pretrained(path, **SAFE))
    return _strictly(auto, path, path, use_safetensors=True, attn_implementation=attention)


def pretrained_with(auto: Any, path: Path, state: Mapping[str, Tensor], where: Path) -> PreTrainedModel:
    """Load weights, read from `where` and named as in files, into the architecture of a directory."""
    config = AutoConfig.from_pretrained(path, **SAFE)
    attention = attention_for(auto, config)
    kind = class_of(auto, config)  # weights without a directory can be given to a model's own class only
    model = _strictly(kind, None, where, config=config, state_dict=dict(state), attn_implementation=attention)
    if (path / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(path)
    return model


def put(model: nn.Module, state: Mapping[str, Tensor], where: object) -> None:
    """Load a model's own state; `ModelError` unless every weight fits."""
    own = dict(model.named_parameters(remove_duplicate=False)) | model.state_dict(keep_vars=True)
    misshapen = [
        (name, state[name].shape, weight.shape)
        for name, weight in own.items()
        if name in state and state[name].shape != weight.shape
    ]
    there = {id(weight) for name, weight in own.items() if name in state}
    missing = [name for name in model.state_dict() if id(own[name]) not in there]  # one of tied weights is enough
    check_fit(model, where, missing, state.keys() - own.keys(), misshapen)
    model.load_state_dict(state, strict=False)


def check_fit(
    model: nn.Module, where: object, missing: Iterable[str], left_over: Iterable[str], misshapen: Iterable[Shapes]
) -> None:
    """Raise `ModelError` if weights are missing, left over or of another shape; the message names them."""
    missing, left_over = sorted(missing), sorted(left_over)
    shapes = [f"{name} ({tuple(is_)} in the file, {tuple(wanted)} in the model)" for name, is_, wanted in misshapen]
    wrong = [
        f"{what}: {named(names)}"
        for what, names in (
            ("missing", missing),
            ("left over", left_over),
            ("of another shape", sorted(shapes)),
        )
        if names
    ]
    if wrong:
        raise ModelError(
            f"{where}: the weights do not fit the architecture {_architecture(model)}; {'; '.join(wrong)}. What is "
            f"missing would be drawn at random, what is left over would not be used. {_advice(model, left_over)}"
        )


def named(names: Iterable[str]) -> str:
    """Return the first names in one line, and how many more there are."""
    every = list(names)
    return ", ".join(every[:NAMED]) + (f" and {len(every) - NAMED} more" if len(every) > NAMED else "")


def check_shards(path: Path) -> None:
    """Raise `ModelError` if a directory's index of weights names files that are not there."""
    for index in path.glob("*.safetensors.index.json"):
        try:
            files = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{index}: not an index of weights ({error}). Download or save the model again.") from None
        gone = [file for file in files if not (path / file).is_file()]
        if gone:
            raise ModelError(
                f"{path}: {index.name} names weight files that are not there: {named(gone)}. Download or save the "
                "model again, whole."
            )


def _strictly(auto: Any, path: Path | None, where: Path, **settings: Any) -> PreTrainedModel:
    with _kept_report() as report:
        try:
            # Weights of another shape are drawn at random here, so that `check_fit` can name and refuse them.
            model, info = auto.from_pretrained(
                path, output_loading_info=True, ignore_mismatched_sizes=True, dtype=torch.float32, **SAFE, **settings
            )
        except RuntimeError as error:
            broken = [line.split("|")[0].strip() for line in "\n".join(report).splitlines() if "| CONVERSION" in line]
            if not broken:
                raise
            raise ModelError(
                f"{where}: these weights cannot be put together from those in the file, where some are missing or of "
                f"another shape: {named(broken)}. Download or save the model again, whole."
            ) from error
    check_fit(model, where, info["missing_keys"], info["unexpected_keys"], info["mismatched_keys"])
    loaded: PreTrainedModel = model
    return loaded


@contextlib.contextmanager
def _kept_report() -> Iterator[list[str]]:
    """Collect transformers' report on weights instead of printing it; our message says what matters."""
    report: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        report.append(record.getMessage())
        return "LOAD REPORT" not in report[-1]

    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(keep)
    try:
        yield report
    finally:
        logger.removeFilter(keep)


def _architecture(model: nn.Module) -> str:
    return next(kind.__name__ for kind in type(model).__mro__ if not kind.__name__.startswith(("FSDP", "Metered")))


def _advice(model: nn.Module, left_over: Iterable[str]) -> str:
    saved = (getattr(getattr(model, "config", None), "architectures", None) or ["?"])[0]
    scorer = "SequenceClassification" in type(model).__name__
    if scorer and (saved.endswith("ForCausalLM") or any(name.startswith("lm_head.") for name in left_over)):
        return (
            "This is a language model where a scorer is wanted: a sequence classifier with one output "
            "(AutoModelForSequenceClassification, num_labels=1), saved after its training."
        )
    if not scorer and "SequenceClassification" in saved:
        return "This is a scorer where a language model is wanted; name the model that it was trained from."
    return (
        f"Rename the weights in the file to the names that {_architecture(model)} has, or save the model again with "
        "save_pretrained of the class that trained it."
    )
