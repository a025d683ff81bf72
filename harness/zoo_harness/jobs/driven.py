"""Running the code of an algorithm's plugin: what it does wrong is told in one sentence that names it."""

import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from zoo_core.accounting import memory
from zoo_core.errors import PluginError, ZooError
from zoo_core.records import Algorithm
from zoo_core.registry.plugins import plugins
from zoo_core.run import Run
from zoo_core.session.session import Session
from zoo_core.session.steps import steps
from zoo_core.storage.atomic import write_json
from zoo_harness.job import Job
from zoo_harness.jobs.worker import disk_is_full

MANY_TIMES = 20
"""An update that takes so many times the longest before it will not end."""
GLANCE = 1.0
"""Seconds between two looks at the time that is left."""


def driven(algorithm: Algorithm, config: object, run: Run, session: Session) -> Iterator[dict[str, float]]:
    """Train, and yield the metrics of each update; an error of the plugin's becomes a `PluginError`."""
    with _blamed(algorithm):
        yield from steps(algorithm.load_train()(config, run), session)


@contextmanager
def _blamed(algorithm: Algorithm) -> Iterator[None]:
    try:
        yield
    except PluginError as error:
        raise plugins().fault_of(algorithm, error) from error
    except (ZooError, FloatingPointError):
        raise  # what the user can mend, a training that diverged: no fault of the plugin's
    except (Exception, SystemExit) as error:
        if disk_is_full(error) or memory.ran_out(error):
            raise
        raise plugins().fault_of(algorithm, error) from error


class Watchdog:
    """Ends this process when an update takes too long, and leaves a word on whose it was and where it stood.

    Time in which the process was stopped (Ctrl-Z, a paused machine) is nobody's fault and does not count.
    """

    def __init__(self, job: Job, algorithm: Algorithm) -> None:
        self.job, self.algorithm = job, algorithm
        self._main = threading.get_ident()
        self._again = threading.Event()
        self._seconds: float | None = None
        self._over = False
        self._ended: float | None = None
        self._longest = 0.0

    def __enter__(self) -> "Watchdog":
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._again.set()

    def allow(self, seconds: float | None) -> None:
        """Give the process so many seconds from now on; None gives it all the time there is."""
        self._seconds = seconds
        self._again.set()

    def update_ended(self, least: float) -> None:
        """Give the next update many times what the longest before it took, and at least so many seconds.

        The first is given all the time there is: it may stand behind long preparations.
        """
        now = time.monotonic()
        if self._ended is not None:
            self._longest = max(self._longest, now - self._ended)
        self._ended = now
        self.allow(max(least, MANY_TIMES * self._longest))

    def _watch(self) -> None:
        while not self._over:
            self._again.clear()
            left = self._seconds
            while not self._again.wait(left and min(left, GLANCE)) and left is not None:
                left -= min(left, GLANCE)  # a stop between two looks counts as one look, however long it was
                if not left and not self._over:
                    self._end()

    def _end(self) -> None:
        stack = traceback.extract_stack(sys._current_frames()[self._main])
        traceback.print_list(stack)
        error = PluginError(
            f"an update took longer than {self._seconds:g} s and did not end (update_seconds in the spec allows more)"
        )
        fault = plugins().fault_of(self.algorithm, error, stack)
        write_json(self.job.failure_file, {"identity": self.job.identity, "user": False, "error": str(fault)})
        sys.stderr.flush()
        os._exit(1)
