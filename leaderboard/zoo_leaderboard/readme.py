"""The README of a bundle: the board, how to check it, and what it was made with."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from zoo_leaderboard.columns import scientific
from zoo_leaderboard.render import escape, grid, markdown


def readme(board: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """Return the README of a board; `manifest` says what it was made with (its own hash is not read)."""
    head = "---\ntitle: {title}\nsdk: static\npinned: false\n---\n\n" if manifest["space"] else ""
    title = json.dumps(" ".join(board["name"].split()))  # a JSON string is a YAML string
    return head.format(title=title) + markdown(board) + "\n" + "\n\n".join(_sections(board, manifest)) + "\n"


def _sections(board: Mapping[str, Any], manifest: Mapping[str, Any]) -> Iterator[str]:
    made_with = escape(manifest["made_with"])
    yield "## Check it"
    yield (
        "Whoever published this board ran it: its rows are *self-reported* unless a note says otherwise. "
        "`index.html` is the same board as a page. To compute every number again from the answers and the ledgers in "
        "`records/`:"
    )
    yield f"    pip install zoo-harness=={made_with}\n    zoo leaderboard verify ."
    yield "To train a row again, on a machine of your own, and compare:"
    yield f"    {_one_line(board['command'])}"
    yield "## Made with"
    code = [[name, one["version"], one["sha256"]] for name, one in sorted(manifest["code"].items())]
    if code:
        yield grid(["Distribution", "Version", "Hash of its code"], code)
    yield "\n".join(_facts(manifest))


def _facts(manifest: Mapping[str, Any]) -> Iterator[str]:
    frozen, base, totals = manifest["frozen"], manifest["base"], manifest["totals"]
    if frozen:
        yield f"- Code and settings were frozen by the tag `{_one_line(frozen['tag'])}` on {escape(frozen['date'])}."
    if manifest["commit"]:
        yield f"- Commit: `{_one_line(manifest['commit'])}`"
    yield f"- Base: {escape(base['ref'])}, sha256 {escape(base['sha256'])}"
    yield f"- Seeds: {', '.join(map(str, manifest['seeds']))}"
    for environment in manifest["environments"]:
        yield f"- Environment: {escape(', '.join(f'{key} {value}' for key, value in sorted(environment.items())))}"
    hours = totals["wall_seconds"] / 3600
    yield f"- All rows and seeds together: {scientific(totals['flops'])} FLOPs, {hours:.1f} hours of training."


def _one_line(text: object) -> str:
    """Return text for a code block or span: one line, nothing that ends it."""
    return " ".join(str(text or "").replace("`", "'").split())
