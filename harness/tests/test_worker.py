"""What a job process does before and around the work."""

import errno
from pathlib import Path

import pytest
from zoo_harness.jobs import Job, read_json
from zoo_harness.worker import _begin, _disk_is_full

from zoo_core.errors import StorageError
from zoo_core.storage import write_json


def job(folder: Path, identity: str) -> Job:
    return Job(kind="train", title="mine", directory=folder, identity=identity)


def leave_work(folder: Path) -> None:
    (folder / "final").mkdir()
    (folder / "now.safetensors").touch()
    write_json(folder / "result.json", {"identity": "old"})


def test_what_another_job_left_in_the_folder_is_cleared_away(tmp_path):
    """Else its checkpoint would be adopted under the new identity, and its weights shown as the new settings'."""
    _begin(job(tmp_path, "old"))
    leave_work(tmp_path)
    job(tmp_path, "new").write()
    _begin(job(tmp_path, "new"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["begun.json", "job.json"]


def test_what_the_same_job_left_is_kept_and_its_attempts_are_counted(tmp_path):
    _begin(job(tmp_path, "same"))
    leave_work(tmp_path)
    _begin(job(tmp_path, "same"))
    assert (tmp_path / "now.safetensors").exists()
    assert read_json(tmp_path / "begun.json") == {"identity": "same", "attempts": 2}


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (RuntimeError("I/O error: No space left on device (os error 28)"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (ValueError("28"), False),
    ],
)
def test_a_full_disk_is_recognised_in_whatever_wraps_it(error, full):
    assert _disk_is_full(error) is full


def test_a_file_where_a_folder_should_be_is_a_user_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"bench\.json: cannot be read"):
        read_json(tmp_path / "file" / "bench.json")
