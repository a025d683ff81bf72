"""Tells the zoo about judges on servers. Everything heavy is imported where it is used."""

from typing import TYPE_CHECKING

from zoo_core.hookspecs import hookimpl

if TYPE_CHECKING:
    from zoo_rlaif.server import ServerJudge

PREFIX = "openai:"


@hookimpl
def zoo_judge(ref: str) -> "ServerJudge | None":
    """Return the model of a server that speaks the OpenAI API: `openai:http://localhost:8000/v1#model-name`."""
    if not ref.startswith(PREFIX):
        return None
    from zoo_rlaif.server import ServerJudge

    return ServerJudge.from_ref(ref)
