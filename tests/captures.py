"""Writes docs/screens: what a terminal shows of `zoo plan`, of a bench that runs and of one that ended. Needs tmux.

python tests/captures.py
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCREENS = ROOT / "docs" / "screens"
SIZES = ((80, 24), (140, 40))
BENCH = "zoo bench --preset smoke --algorithms sft,dpo,ppo --seeds 2"
PLAN = BENCH.replace("bench", "plan", 1)
PROMPT = "$ "
PATIENCE_SECONDS = 1800


class Terminal:
    """A terminal of one size, in which a shell runs."""

    def __init__(self, width: int, height: int, folder: Path) -> None:
        self.name = f"zoo-{os.getpid()}-{width}"
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        given = [f"ZOO_CACHE={folder / 'cache'}", "HF_HUB_OFFLINE=1", f"PS1={PROMPT}", f"PATH={path}"]
        shell = shlex.join(["env", "-u", "COLUMNS", *given, "bash", "--norc", "--noprofile"])
        self._tmux("new-session", "-d", "-x", str(width), "-y", str(height), "-c", str(folder), shell, named="-s")

    def _tmux(self, command: str, *words: str, named: str = "-t") -> str:
        done = subprocess.run(
            ["tmux", command, named, self.name, *words], check=True, capture_output=True, text=True, encoding="utf-8"
        )
        return done.stdout

    def begin(self, line: str) -> None:
        """Type a line."""
        self._tmux("send-keys", "clear", "Enter")
        time.sleep(1)
        self._tmux("send-keys", line, "Enter")
        time.sleep(1)

    def screen(self) -> str:
        """Return what the terminal shows now."""
        return self._tmux("capture-pane", "-p").rstrip("\n") + "\n"

    def wait(self, share: float = 1.0) -> str:
        """Return the screen when a command has ended, or such a share of its jobs is done."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            seen = self.screen()
            if seen.rstrip("\n").endswith(PROMPT.strip()):
                return seen
            done = re.findall(r"^(\d+)/(\d+) jobs done,", seen, re.MULTILINE)
            if share < 1 and done and int(done[-1][0]) >= share * int(done[-1][1]):
                return seen
            time.sleep(0.5)
        raise TimeoutError(self.screen())

    def end(self) -> None:
        """Close it."""
        self._tmux("kill-session")


def main() -> None:
    """Write one file for each moment and size."""
    SCREENS.mkdir(exist_ok=True)
    for width, height in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            terminal = Terminal(width, height, Path(folder))
            terminal.begin(PLAN)
            shown = {"plan": terminal.wait()}
            terminal.begin(BENCH)
            shown["running"] = terminal.wait(share=0.4)
            shown["ended"] = terminal.wait()
            terminal.end()
        for moment, text in shown.items():
            (SCREENS / f"{moment}-{width}x{height}.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
