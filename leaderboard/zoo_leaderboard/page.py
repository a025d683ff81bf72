"""A board as one self-contained HTML page that works from a file, loads nothing and runs only our own script.

The board is embedded as JSON, which browsers do not run, and the script puts its texts on the page as text.
The content security policy names style and script by their hashes, so that nothing else can run.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

_FOLDER = files("zoo_leaderboard") / "web"
_SCRIPTS = ("dom.js", "table.js", "charts.js", "details.js", "main.js")
_ESCAPES = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


def page(board: Mapping[str, Any]) -> str:
    """Return the page of a board; the same bytes for the same board."""
    style, script = _read("page.css"), "\n".join(map(_read, _SCRIPTS))
    # What is marked safe is our own files, and JSON without any sign that could end its element.
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(_read("page.html"))
    return template.render(
        name=board["name"],
        style=Markup(style),
        style_hash=_source(style),
        script=Markup(script),
        script_hash=_source(script),
        data=Markup(dumps(board).translate(_ESCAPES)),
    )


def dumps(board: Mapping[str, Any], indent: int | None = None) -> str:
    """Return a board as JSON with sorted keys; numbers that JSON does not have become null."""
    return json.dumps(_finite(board), sort_keys=True, allow_nan=False, ensure_ascii=False, indent=indent)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not abs(value) < float("inf") else value


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _source(text: str) -> str:
    """Return the content security policy's name of an inline element with this text."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
