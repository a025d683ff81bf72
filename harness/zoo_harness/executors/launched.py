"""Trainings in several processes each, started by the user's own launcher: `zoo train --launch`.

Other jobs, such as calibrating a reward, run in one process of this machine.
"""

import shlex

from zoo_core.errors import SpecError
from zoo_harness.executors.launcher import launch
from zoo_harness.executors.local import Forks, Handle
from zoo_harness.job import Job


class Launched(Forks):
    """A place where trainings run as a launcher says."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words = shlex.split(words)

    def start(self, job: Job) -> Handle:
        """Start the launcher, or one process for what is no training."""
        if job.kind != "train":
            return super().start(job)
        try:
            return launch(self.words, job)
        except OSError as error:
            raise SpecError(
                f"--launch {shlex.join(self.words)}: {error.strerror}. Give the beginning of a command that starts "
                'processes, for example "accelerate launch --multi_gpu --num_processes 2".'
            ) from None
