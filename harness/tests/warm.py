"""`zoo` commands as processes that are forked from one that has imported everything.

A bench of the tests' size takes ten seconds, four of which its process and the server of its jobs spend on importing.
Here both are forked: the command from this process, its jobs from a server that this process started. Nothing else
differs from a command that a user starts; what has to begin with an interpreter of its own (other variables of the
environment, Ctrl-C) does.
"""

import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import forkserver
from pathlib import Path

LONGEST = 580
"""Seconds after which a command is killed."""


class Warm:
    """A process that commands are forked from, one after the other."""

    def __init__(self, server: subprocess.Popen[str]) -> None:
        self.server = server

    @classmethod
    @contextmanager
    def started(cls) -> Iterator["Warm"]:
        """Start it, and end it at the end."""
        here = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import warm; warm.serve()"
        command = [sys.executable, "-c", here]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            yield cls(server)

    def run(
        self, arguments: list[str], cwd: Path, environment: Mapping[str, str], outputs: Path
    ) -> subprocess.CompletedProcess[str]:
        """Run `zoo` in a folder; what it prints goes through two files in `outputs`."""
        assert self.server.stdin
        assert self.server.stdout
        files = [outputs / name for name in ("stdout", "stderr")]
        asked = [arguments, str(cwd), dict(environment), *map(str, files)]
        self.server.stdin.write(json.dumps(asked) + "\n")
        self.server.stdin.flush()
        code = int(self.server.stdout.readline())
        texts = [file.read_text(encoding="utf-8", errors="replace") for file in files]
        return subprocess.CompletedProcess(["zoo", *arguments], code, *texts)


def serve() -> None:
    """Fork a process for each command that is asked for, and answer with its exit code."""
    from zoo_harness import bench, cli, prepare  # noqa: F401  # imported for the forked ones
    from zoo_harness.jobs.worker import PRELOAD

    forkserver.set_forkserver_preload(PRELOAD)
    forkserver.ensure_running()
    while line := sys.stdin.readline():
        child = os.fork()
        if child == 0:
            return command(*json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def command(arguments: list[str], cwd: str, environment: dict[str, str], stdout: str, stderr: str) -> None:
    """Be `zoo` in this process."""
    import zoo_harness.executors.local
    from zoo_harness.start import main

    signal.alarm(LONGEST)
    for number, name in enumerate((os.devnull, stdout, stderr)):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), number)
    os.chdir(cwd)
    take_over(environment)
    sys.path.append(sys.path[0])  # for `begin`
    sys.path[0] = cwd
    sys.argv = ["zoo", *arguments]
    forkserver._forkserver._forkserver_pid = None  # the server is not this process's to wait for, or to end
    forkserver.ensure_running = forkserver._forkserver.ensure_running = lambda: None
    zoo_harness.executors.local.main = AsTheCommand()
    main()


class AsTheCommand:
    """A job's process with the variables that its command has when it is forked; the server has its own."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return functools.partial, (begin, dict(os.environ))


def begin(environment: dict[str, str], *words: str | None) -> None:
    """Do a job."""
    from zoo_harness.jobs.worker import main

    take_over(environment)
    main(*words)


def take_over(environment: dict[str, str]) -> None:
    """Have this process's variables be these."""
    os.environ.clear()
    os.environ.update(environment)
