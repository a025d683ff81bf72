"""A job: one thing a bench must do, in a process of its own, leaving `result.json` in its own folder."""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from zoo_core.errors import StorageError
from zoo_core.storage import write_json

Kind = Literal["probe", "train", "label_pairs", "calibrate", "score"]


class Job(BaseModel):
    """Everything a process needs to do its part, as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    title: str
    """What the table calls it."""
    directory: Path
    """Its folder."""
    needs: tuple[str, ...] = ()
    """Identities of the jobs that must have ended well before."""
    row: str = ""
    seed: int = 0
    identity: str
    """Hash of all that its result depends on; a result with the same identity is never computed again."""
    payload: dict[str, Any] = {}

    @property
    def result_file(self) -> Path:
        """Where the result is written, atomically, when the job is done."""
        return self.directory / "result.json"

    @property
    def failure_file(self) -> Path:
        """Where a failure is explained."""
        return self.directory / "failure.json"

    @property
    def progress_file(self) -> Path:
        """What the table shows while it runs."""
        return self.directory / "progress.json"

    def result(self) -> dict[str, Any] | None:
        """Return the result, if it is there and is this job's."""
        result = read_json(self.result_file)
        return result if result and result.get("identity") == self.identity else None

    def write(self) -> Path:
        """Write the job itself, for the process that does it."""
        path = self.directory / "job.json"
        write_json(path, self.model_dump(mode="json"))
        return path


class Outcome(BaseModel):
    """How a job ended."""

    status: Literal["ok", "user-error", "failed", "killed"]
    error: str = ""


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a JSON object, or None where there is none that is whole."""
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    except OSError as error:
        raise StorageError(
            f"{path}: cannot be read ({error.strerror}). A folder was expected before the last /."
        ) from None
    return value


def identify(*parts: object) -> str:
    """Hash of JSON values."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]
