"""python tests/commits.py: check the messages of commits, as CONTRIBUTING.md asks for them. Part of `make lint`."""

import re
import subprocess
import sys
from collections.abc import Iterator

SINCE = "31521de9209956ed9885a3165578849f972d951c"
"""The last commit before there was this check."""
LONGEST = 60
"""Characters of a subject."""
MOVES_NUMBERS = re.compile(
    r"plugins/[\w-]+/zoo_\w+/(loss|config)\.py"
    r"|zoo_core/(functional|endings|rollout)\.py"
    r"|zoo_core/accounting/(meter|attention|products|audit|formulas|budget)\.py"
    r"|zoo_core/compute/(sampler|readers|packing)\.py"
    r"|zoo_core/datasets/(encoding|chat)\.py"
)
"""Files whose change can move a board: a loss, a default, the meter, the budget, the sampler, what is learnt from."""


def git(*arguments: str) -> str:
    """Return what git prints."""
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout


def complaints(subject: str, body: str, files: list[str]) -> Iterator[str]:
    """Yield what is wrong with the message of a commit that changes these files."""
    if len(subject) > LONGEST:
        yield f"the subject has {len(subject)} characters, more than {LONGEST}"
    moved = [file for file in files if MOVES_NUMBERS.fullmatch(file)]
    if moved and not body.strip():
        yield f"there is no body, and {moved[0]} can move numbers: say why, and what was measured"


def main() -> int:
    """Print every complaint; 1 if there is one."""
    try:
        found = git("log", "--no-merges", "--format=%H", f"{SINCE}..HEAD").split()
    except subprocess.CalledProcessError as error:
        print(f"commits are not checked: {error.stderr.strip()} (a clone without history?)")
        return 0
    wrong = 0
    for commit in found:
        subject, _, body = git("show", "--no-patch", "--format=%s%n%b", commit).partition("\n")
        files = git("show", "--name-only", "--format=", commit).split("\n")
        for complaint in complaints(subject, body, files):
            wrong += 1
            print(f"{commit[:9]} {subject}: {complaint}.")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
