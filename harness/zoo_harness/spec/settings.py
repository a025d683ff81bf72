"""From the settings a user wrote to an algorithm's configuration."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from zoo_core.errors import SpecError, did_you_mean
from zoo_core.records import Algorithm
from zoo_core.registry.plugins import plugins


def configure(algorithm: Algorithm, settings: Mapping[str, object]) -> Any:
    """Return the configuration; `SpecError` names the setting that is unknown or has a wrong value."""
    try:
        kind: type = algorithm.load_config()
    except (Exception, SystemExit) as error:  # whatever importing a plugin's module raises
        fault = error if isinstance(error, Exception) else RuntimeError(f"it exits: {error}")
        raise plugins().fault_of(algorithm, fault) from error
    fields = [field.name for field in dataclasses.fields(kind)]
    for name in settings:
        if name not in fields:
            raise SpecError(f"{algorithm.name} has no setting {name!r}. {did_you_mean(name, fields)}")
    hints = get_type_hints(kind)
    try:
        for name, value in settings.items():
            refuse_truth_for_a_number(value, hints[name], f"{name}: ")
            _refuse_what_trains_nothing(name, value)
        return TypeAdapter(kind).validate_python(dict(settings))
    except ValidationError as error:
        lines = [": ".join([*map(str, one["loc"]), one["msg"].removeprefix("Value error, ")]) for one in error.errors()]
        raise SpecError(f"{algorithm.name}: {'; '.join(lines)}") from None
    except (TypeError, ValueError, ArithmeticError) as error:
        raise SpecError(f"{algorithm.name}: the settings {dict(settings)} cannot be used: {error}") from None


def all_settings(algorithm: Algorithm, settings: Mapping[str, object]) -> dict[str, Any]:
    """Return all settings that an algorithm trains with, its defaults too, as JSON has them."""
    found = configure(algorithm, settings)
    written: dict[str, Any] = TypeAdapter(type(found)).dump_python(found, mode="json")
    return written


def refuse_truth_for_a_number(value: object, annotation: object, name: str = "") -> None:
    """Raise `ValueError` for `true` where a number is due: Python takes it for 1."""
    parts = value if isinstance(value, (list, tuple)) else [value]
    if any(isinstance(part, bool) for part in parts) and not _may_be_true(annotation):
        raise ValueError(f"{name}{value!r} is no number; write one")


def _refuse_what_trains_nothing(name: str, value: object) -> None:
    """Raise `ValueError` for numbers that are not finite, and for a learning rate below 0, which climbs the loss."""
    for part in value if isinstance(value, (list, tuple)) else [value]:
        if isinstance(part, float) and not math.isfinite(part):
            raise ValueError(f"{name}: {part!r} is not finite; write a number")
        if name.endswith("learning_rate") and isinstance(part, (int, float)) and part < 0:
            raise ValueError(f"{name}: {part!r} is below 0; write a number above it")


def _may_be_true(annotation: object) -> bool:
    return annotation in (bool, Any) or any(_may_be_true(part) for part in get_args(annotation))
