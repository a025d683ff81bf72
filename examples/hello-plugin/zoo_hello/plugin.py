"""Read whenever plugins are listed, so it imports nothing heavy."""

from zoo_core.hookspecs import hookimpl
from zoo_core.records import Algorithm


@hookimpl
def zoo_algorithms() -> list[Algorithm]:
    """Return the algorithms of this plugin."""
    return [
        Algorithm(
            name="hello",
            summary="Separates chosen from rejected answers by a margin",
            paper="2305.10425",
            config="zoo_hello.config:HelloConfig",
            train="zoo_hello.train:train",
            learns_from=("preferences",),
            starts_from="sft",
        )
    ]
