"""What a job process does before and around the work."""

import errno
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from zoo_harness.job import BUSY, Job, read_json
from zoo_harness.jobs import worker
from zoo_harness.jobs.worker import _begin, _do, disk_is_full

from zoo_core.errors import SpecError, StorageError
from zoo_core.storage.atomic import write_json


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
    assert disk_is_full(error) is full


def test_a_file_where_a_folder_should_be_is_a_user_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"bench\.json: cannot be read"):
        read_json(tmp_path / "file" / "bench.json")


@pytest.fixture
def computing(monkeypatch) -> Callable[[Callable[[Job], Any]], None]:
    """Say what a training job computes, in this process."""
    monkeypatch.setattr(worker, "_prepare", lambda job: None)

    def say(compute: Callable[[Job], Any]) -> None:
        monkeypatch.setitem(sys.modules, "zoo_harness.jobs.train", types.SimpleNamespace(run=compute))

    return say


def test_what_is_computed_is_the_result(tmp_path, computing):
    computing(lambda job: {"identity": job.identity, "answer": 42})
    assert _do(job(tmp_path, "mine")) == 0
    assert job(tmp_path, "mine").result() == {"identity": "mine", "answer": 42}


@pytest.mark.parametrize(("error", "user"), [(SpecError("no such row"), True), (SystemExit("bye"), False)])
def test_whatever_is_raised_is_written_down_and_whose_doing_it_was(tmp_path, computing, error, user, capsys):
    def fail(job: Job) -> None:
        raise error

    computing(fail)
    assert _do(job(tmp_path, "mine")) == 1
    said = {True: "no such row", False: "SystemExit: bye"}[user]
    assert job(tmp_path, "mine").failure() == {"identity": "mine", "user": user, "memory": False, "error": said}
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("file", "code"), [("result.json", 0), ("failure.json", 1)])
def test_what_another_bench_has_tried_meanwhile_is_not_tried_again(tmp_path, computing, file, code):
    computing(lambda job: pytest.fail("computed again"))
    write_json(tmp_path / file, {"identity": "mine", "user": False, "error": "no"})
    assert _do(job(tmp_path, "mine")) == code
    assert not (tmp_path / "begun.json").exists()


def test_a_job_that_is_held_elsewhere_is_left_alone_or_waited_for(tmp_path):
    mine = job(tmp_path, "mine")
    code = "import sys; from zoo_harness.jobs.worker import main; main(sys.argv[1])"
    with mine.lock():
        done = subprocess.run([sys.executable, "-c", code, str(mine.write())], check=False)
        assert done.returncode == BUSY
        waiting = subprocess.Popen([sys.executable, "-m", "zoo_harness.start", "job", str(mine.file)])
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(timeout=2)
        write_json(mine.result_file, {"identity": "mine"})
    assert waiting.wait(timeout=20) == 0
    assert not (tmp_path / "begun.json").exists()


def test_a_job_whose_needs_are_not_done_is_not_started(tmp_path):
    first, second = job(tmp_path / "1", "first"), job(tmp_path / "2", "second")
    command = [sys.executable, "-m", "zoo_harness.start", "job", str(second.write()), str(first.write())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"not started, because {first.file} is not done" in done.stderr
    assert not (second.directory / "log.txt").exists()


ISOLATED = """
import sys
from zoo_harness.job import Job
from zoo_harness.planning.plan import algorithm_plugins
from zoo_harness.jobs.worker import _prepare

names = algorithm_plugins()  # the bench's process has all plugins, and a job is forked with none loaded
records = plugins().algorithms.values()
code = {{path.partition(":")[0] for record in records for path in (record.config, record.train)}}
code |= {{plugins().owner("zoo_algorithms", record.name).module.partition(":")[0] for record in records}}
packages = {{module.partition(".")[0] for module in code}}
for module in [one for one in sys.modules if one.partition(".")[0] in packages]:
    del sys.modules[module]
payload = {{"spec": {{"name": "made"}}, "weights": ".", "algorithm_plugins": names}}
_prepare(Job(kind="score", title="score", directory=".", identity="x", payload=payload))

from zoo_core.registry.references import load_judge, load_reward, load_rows, resolve
from zoo_harness.jobs.lmeval import load_tasks

resolve("tinytown:base"), load_judge("tinytown:judge"), load_reward("tinytown:gold")
load_rows("tinytown:prompts", "test_prompts", 0), load_tasks(["tinytown_facts"])
assert plugins().algorithms == {{}}
# A package may bring a reward or a judge by an entry point of its own (rrhf, openai): its algorithm is not loaded.
print(*sorted(code & set(sys.modules)), len(code) > 20)
"""


def test_a_process_that_scores_holds_no_algorithm_whoever_asks_for_plugins(tmp_path):
    code = "from zoo_core.registry.plugins import plugins\n" + ISOLATED.format()
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("True", 0), done.stderr


SEALED = """
import sys
from zoo_core.registry.references import is_gold, load_judge, load_reward, load_rows, resolve
from zoo_harness.job import Job
from zoo_harness.jobs.worker import _prepare

assert is_gold("tinytown:gold") and "zoo_tinytown_gold" in sys.modules  # as in a process that planned before
payload = {"algorithm": "sft", "settings": {}, "spec": {"name": "made"}}
_prepare(Job(kind="train", title="x", directory=".", identity="x", payload=payload))

for module in ("zoo_tinytown_gold", "zoo_tinytown_gold.gold", "zoo_tinytown_gold.writers"):
    try:
        __import__(module)
    except ModuleNotFoundError as error:
        print(error)
for wanted in (lambda: load_reward("tinytown:gold"), lambda: load_rows("tinytown:prompts", "test_prompts", 0)):
    try:
        print(wanted())
    except Exception as error:
        print(type(error).__name__)
resolve("tinytown:base"), load_judge("tinytown:judge")
print(len(load_rows("tinytown:demonstrations", "demonstrations", 0)))
print([name for name in sys.modules if name.startswith("zoo_tinytown_gold")])
"""


def test_a_process_that_trains_can_import_neither_gold_nor_the_prompts_that_are_scored(tmp_path):
    done = subprocess.run([sys.executable, "-c", SEALED], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        "zoo_tinytown_gold holds gold, and a process that trains cannot import it",
        "zoo_tinytown_gold holds gold, and a process that trains cannot import it",
        "zoo_tinytown_gold holds gold, and a process that trains cannot import it",
        "SpecError",
        "DataError",
        "4000",
        "[]",
    ], done.stderr
