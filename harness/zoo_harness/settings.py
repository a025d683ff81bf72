"""From the settings a user wrote to an algorithm's configuration."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from zoo_core.errors import SpecError, did_you_mean
from zoo_core.records import Algorithm


def configure(algorithm: Algorithm, settings: Mapping[str, Any]) -> Any:
    """Return the configuration; `SpecError` names the setting that is unknown or has a wrong value."""
    kind: type[Any] = algorithm.load_config()
    fields = [field.name for field in dataclasses.fields(kind)]
    for name in settings:
        if name not in fields:
            raise SpecError(f"{algorithm.name} has no setting {name!r}. {did_you_mean(name, fields)}")
    try:
        return TypeAdapter(kind).validate_python(dict(settings))
    except (TypeError, ArithmeticError) as error:
        raise SpecError(f"{algorithm.name}: the settings {dict(settings)} cannot be used: {error}") from None
    except ValidationError as error:
        lines = [": ".join([*map(str, one["loc"]), one["msg"].removeprefix("Value error, ")]) for one in error.errors()]
        raise SpecError(f"{algorithm.name}: {'; '.join(lines)}") from None
