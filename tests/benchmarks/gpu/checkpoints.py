"""The share of a training's time that checkpoints take by default, over a minute of SFT and of PPO.

    checkpoints.py [--seconds 60] [--tiny]

There are two shares: of the minute that was measured, and of a long training, where the loop waits after each
checkpoint until its time is 2 % of the time since.
"""

from typing import Any

from results import Results, arguments
from serving import sides

PART = "checkpoints"


def shares(found: dict[str, Any]) -> dict[str, Any]:
    """Return what was measured, with the shares."""
    if "error" in found:
        return found
    saved = found["saved"]
    found["share"] = sum(saved) / found["seconds"]
    if saved:
        pause = max(found["checkpoint_seconds"], saved[-1] / found["allowed"])
        found["share in the long run"] = saved[-1] / (pause + saved[-1])
    return found


def main() -> None:
    """Measure what is not known."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to train")
    given = parser.parse_args()
    results = Results(given.tiny)
    with sides(given.python, given.tiny) as (zoo, _):
        results.through(
            PART,
            ["sft small", "ppo small"],
            given.minutes,
            lambda name: shares(zoo.ask("checkpoints", name=name, seconds=given.seconds)),
        )


if __name__ == "__main__":
    main()
