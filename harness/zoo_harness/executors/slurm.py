"""`zoo bench --emit slurm`: a bench as a few bash scripts that anyone can read, change and run."""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from zoo_core.registry.uninstalled import VARIABLE
from zoo_core.storage.atomic import write_text
from zoo_harness.job import Job

MOST_TASKS = 1000
"""Of one array: SLURM's default for MaxArraySize is 1001."""
DEFAULTS = {"cpus-per-task": "1", "output": "%x-%A_%a.log"}
"""#SBATCH lines of every job, unless the user gives others."""

SUBMIT = """\
#!/bin/bash
# Hands the bench "{name}" to SLURM: bash submit.sh
#
# Line N of a list is task N of its array: a job of the bench, and the jobs that it needs. A level starts when the one
# before it has ended, well or not; a job whose needs are not done does not start, and board.sh does what is missing in
# the end. Run again, this script does only what is not done; a cell that was stopped goes on from its checkpoint.
set -euo pipefail
cd "$(dirname "$0")"
{arrays}
sbatch --dependency=afterany:{last} board.sh
"""
TASK = """\
#!/bin/bash
{lines}
set -euo pipefail
files=$(sed -n "${{SLURM_ARRAY_TASK_ID}}p" "$1")
cd {here}
export ZOO_PLUGINS={plugins}
xargs {zoo} job <<< "$files"
"""
BOARD = """\
#!/bin/bash
# Does the jobs that are not done, writes all records and the board.
{lines}
set -euo pipefail
cd {here}
export ZOO_CACHE={cache}
{zoo} {command}
"""


def emit(
    name: str,
    jobs: Sequence[Job],
    folder: Path,
    cache: Path,
    command: Sequence[str],
    options: Mapping[str, str],
    most: int | None = None,
) -> Path:
    """Write submit.sh, task.sh, board.sh and the lists of jobs into a folder; return submit.sh.

    `command` holds the words after `zoo` that make the board, `options` become #SBATCH lines, and at most `most` tasks
    of an array run at once.
    """
    zoo = f"{shlex.quote(sys.executable)} -m zoo_harness.start"
    lines = {"job-name": f"zoo-{name}", **DEFAULTS, **options}
    sbatch = "\n".join(f"#SBATCH --{key}={value}" for key, value in lines.items())
    files = {job.identity: str(job.write()) for job in jobs}
    arrays, before, number = list[str](), "", 0
    for level in levels(jobs):
        depends, names = (f" --dependency=afterany:{before}" if before else ""), []
        for first in range(0, len(level), MOST_TASKS):
            part, number = level[first : first + MOST_TASKS], number + 1
            names.append(f"$array_{number}")
            write_text(folder / f"jobs-{number}.txt", "".join(_line(job, files) for job in part))
            array = f"1-{len(part)}" + (f"%{most}" if most else "")
            arrays.append(
                f"array_{number}=$(sbatch --parsable --array={array}{depends} task.sh jobs-{number}.txt)"
                f"  # {', '.join(sorted({job.title for job in part}))}"
            )
        before = ":".join(names)
    here = shlex.quote(os.getcwd())  # relative paths among the user's words are relative to it
    plugins = shlex.quote(os.environ.get(VARIABLE, ""))
    write_text(folder / "task.sh", TASK.format(lines=sbatch, zoo=zoo, here=here, plugins=plugins))
    quoted = {"here": here, "cache": shlex.quote(str(cache)), "command": shlex.join(command)}
    write_text(folder / "board.sh", BOARD.format(lines=sbatch.replace("_%a", ""), zoo=zoo, **quoted))
    write_text(folder / "submit.sh", SUBMIT.format(name=name, arrays="\n".join(arrays), last=before))
    return folder / "submit.sh"


def levels(jobs: Sequence[Job]) -> list[list[Job]]:
    """Sort jobs into levels: each stands in one after those it needs, rows after all stages, which are shorter."""
    found: list[list[Job]] = []
    above: set[str] = set()
    for waiting in ([job for job in jobs if not job.row], [job for job in jobs if job.row]):
        while waiting:
            found.append([job for job in waiting if above.issuperset((*job.needs, *job.after))])
            above.update(job.identity for job in found[-1])
            waiting = [job for job in waiting if job.identity not in above]
    return found


def _line(job: Job, files: Mapping[str, str]) -> str:
    return shlex.join([files[job.identity], *(files[need] for need in job.needs)]) + "\n"
