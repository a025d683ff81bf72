"""A job: one thing a bench must do, in a process of its own, leaving `result.json` in its own folder."""

import hashlib
import json
import tempfile
import time
from pathlib import Path
from typing import Literal, NotRequired, TypedDict, cast

import psutil
from filelock import FileLock
from pydantic import BaseModel, ConfigDict, JsonValue

from zoo_core.errors import StorageError
from zoo_core.storage.atomic import write_json
from zoo_harness.payloads import Kind

BUSY = 75
"""Exit code of a process that found its job held by another (EX_TEMPFAIL of sysexits.h)."""


class Failure(TypedDict):
    """Why a job failed."""

    identity: str
    user: bool
    """Whether the user can mend it."""
    memory: NotRequired[bool]
    """Whether there was too little memory for it."""
    error: str


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
    after: tuple[str, ...] = ()
    """Identities of the jobs that must have ended before, well or not."""
    row: str = ""
    seed: int = 0
    trial: int = 0
    """The trial of the row that it belongs to, from 1; 0 if it belongs to none."""
    processes: int = 1
    """How many processes share it, each with a GPU of its own, because one has too little memory for it."""
    identity: str
    """Hash of all that its result depends on; a result with the same identity is never computed again."""
    payload: dict[str, JsonValue] = {}
    """What the job is given, as JSON; `zoo_harness.payloads` has its type for each kind."""

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

    def result(self) -> dict[str, object] | None:
        """Return the result, if it is there and is this job's."""
        return self._own(self.result_file)

    def failure(self) -> Failure | None:
        """Return why the job failed, in this bench or in another that works on the same folder."""
        return cast(Failure | None, self._own(self.failure_file))

    def _own(self, file: Path) -> dict[str, object] | None:
        found = read_json(file)
        return found if found and found.get("identity") == self.identity else None

    def lock(self) -> FileLock:
        """Whoever does the job holds this lock, so that no job is done twice at once.

        It is `flock`: the kernel gives it up when its holder dies, a file server when the holder's machine is gone.
        So it needs no clock, cannot be left behind and is never taken from a holder that lives. A lock that is a mere
        file could be; therefore no falling back to one.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{self.directory}: the folder cannot be made ({error.strerror}).") from None
        return FileLock(self.directory / "lock", fallback_to_soft=False)

    def look_again(self) -> None:
        """See what another machine wrote: a network file system may remember for a minute that a file was not there.

        A file of our own in the folder makes it ask the server.
        """
        tempfile.TemporaryFile(dir=self.directory).close()

    @property
    def file(self) -> Path:
        """Where the job itself is written, for the process that does it."""
        return self.directory / "job.json"

    def write(self) -> Path:
        """Write the job itself."""
        write_json(self.file, self.model_dump(mode="json"))
        return self.file


class Outcome(BaseModel):
    """How a job ended."""

    status: Literal["ok", "user-error", "failed", "killed"]
    error: str = ""
    memory: bool = False
    """Whether it failed because there was too little memory."""


def of_file(path: Path) -> Job:
    """Return the job that was written to a file."""
    written = read_json(path)
    if written is None:
        raise StorageError(f"{path}: there is no job. `zoo bench` writes one into each folder of its output.")
    return Job.model_validate(written)


def seconds_of_this_process() -> float:
    """Return how long ago this process was started."""
    return time.time() - psutil.Process().create_time()


def read_json(path: Path) -> dict[str, object] | None:
    """Return a JSON object, or None where there is none that is whole."""
    try:
        value: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
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
