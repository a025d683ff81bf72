"""Write the JSON schemas of a bundle's files, from the types that read them: python tests/schemas.py."""

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from zoo_leaderboard.bundle import BUNDLE_VERSION, Manifest
from zoo_leaderboard.schema import SCHEMA_VERSION, Bench, Record

FOLDER = Path(__file__).parents[1] / "docs" / "schema"
KINDS: dict[str, Any] = {
    f"bundle-{BUNDLE_VERSION}": Manifest,
    f"bench-{SCHEMA_VERSION}": Bench,
    f"record-{SCHEMA_VERSION}": Record,
}
"""The type of each file, by the name of its schema."""


def schemas() -> dict[str, str]:
    """Return each schema by the name of its file."""
    draft = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    found = {f"{name}.json": {**draft, **TypeAdapter(kind).json_schema()} for name, kind in KINDS.items()}
    return {name: json.dumps(schema, indent=1, sort_keys=True) + "\n" for name, schema in found.items()}


if __name__ == "__main__":
    for name, text in schemas().items():
        (FOLDER / name).write_text(text)
