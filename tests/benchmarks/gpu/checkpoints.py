"""The share of a training's time that checkpoints take by default, over a minute of SFT and of PPO.

    checkpoints.py [--seconds 60] [--tiny]

There are two shares: of the minute that was measured, and of a long training, where the loop waits after each
checkpoint until its time is 2 % of the time since.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

from base import made
from results import Results, arguments
from serving import Side

PART = "checkpoints"
PAUSE, SHARE = 20.0, 0.02
"""`checkpoint_seconds` by default, and `CHECKPOINTS` of zoo_core/session/loop.py."""


def shares(found: dict[str, Any]) -> dict[str, Any]:
    """Return what was measured, with the shares."""
    if "error" in found:
        return found
    saved = found["saved"]
    found["share"] = sum(saved) / found["seconds"]
    if saved:
        found["share in the long run"] = saved[-1] / (max(PAUSE, saved[-1] / SHARE) + saved[-1])
    return found


def main() -> None:
    """Measure what is not known."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to train")
    given = parser.parse_args()
    results = Results(given.tiny)
    folder = Path(tempfile.gettempdir()) / "zoo-gpu"
    folder.mkdir(exist_ok=True)
    made(folder, given.tiny)
    zoo = Side(Path(__file__).parent / "zoo_side.py", sys.executable, folder, *["--tiny"] * given.tiny)
    try:
        results.through(
            PART,
            ["sft small", "ppo small"],
            given.minutes,
            lambda name: shares(zoo.ask("checkpoints", name=name, seconds=given.seconds)),
        )
    finally:
        zoo.close()


if __name__ == "__main__":
    main()
