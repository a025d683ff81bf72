"""Where the `zoo` command begins: what Ctrl-C does is settled before anything that takes time is imported."""

import signal
import sys
from types import FrameType

STOPPED = "stopped; what is done stays, and the same command goes on from there"
INTERRUPTED = 130
"""Exit code of a command that a person stopped, as shells have it."""


class Stopped(BaseException):
    """Somebody pressed Ctrl-C. Not `KeyboardInterrupt`, which the command line's library ends without our word."""


def main() -> None:
    """Run the command; stopped by Ctrl-C it says one line, whatever it was doing."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background by a shell: not ours to stop
        _run()
        return
    signal.signal(signal.SIGINT, _stop)
    try:
        _run()
    except Stopped:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one must not cut the line off
        if "zoo_harness.executors.local" in sys.modules:
            sys.modules["zoo_harness.executors.local"].end_server()
        sys.stderr.write(f"\n{STOPPED}\n")
        sys.exit(INTERRUPTED)


def _run() -> None:
    from zoo_harness.cli import main

    main()


def _stop(_: int, __: FrameType | None) -> None:
    raise Stopped


if __name__ == "__main__":
    main()
