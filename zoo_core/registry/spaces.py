"""The search space that an algorithm's configuration class declares, checked, and where its defaults come from."""

from zoo_core.errors import PluginError
from zoo_core.records import Defaults, Space

MOST_DIMENSIONS = 4
"""Settings that may be searched: sixteen points say nothing about more."""


def space_of(config: type, name: str) -> Space:
    """Return the search space that the configuration class of the algorithm `name` declares; empty if it has none.

    Raises `PluginError` for a space with too many dimensions, with a setting that there is not, or without the default.
    """
    space: Space = getattr(config, "SEARCH", {})
    if len(space) > MOST_DIMENSIONS:
        raise PluginError(f"{name}: its search space has {len(space)} dimensions; {MOST_DIMENSIONS} is the most.")
    present = config()
    for setting, values in space.items():
        if setting not in vars(present):
            raise PluginError(f"{name}: its search space has {setting!r}, which is none of its settings.")
        if vars(present)[setting] not in values:
            raise PluginError(
                f"{name}: its default {setting}={vars(present)[setting]} is not in its search space ({values}); widen "
                "the space."
            )
    return space


def defaults_of(config: type) -> Defaults:
    """Return where the defaults of a configuration class come from; one that does not say so set them by hand."""
    found = getattr(config, "DEFAULTS", None)
    return found if isinstance(found, Defaults) else Defaults()
