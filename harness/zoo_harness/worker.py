"""What runs in the process of a job: quiet, single-threaded on a CPU, every failure written down."""

import os
import sys
import threading
import traceback
from importlib import import_module
from pathlib import Path

from filelock import FileLock

from zoo_core.errors import ZooError
from zoo_core.storage import write_json
from zoo_harness.jobs import Job, read_json

PRELOAD = [
    "torch",
    "transformers",
    "transformers.models.llama.modeling_llama",
    "accelerate",
    "datasets",
    "lm_eval",
    "lm_eval.models.huggingface",
    "zoo_core.run",
]
"""Imported once by the server that job processes are forked from. No plugin is among them."""


def main(job_file: str) -> None:
    """Do the job; leave result.json, or failure.json and an exit code that is not 0."""
    job = Job(**(read_json(Path(job_file)) or {}))
    with (job.directory / "log.txt").open("a", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        job.failure_file.unlink(missing_ok=True)
        try:
            # Two benches may need one stage: the second waits, and finds the first one's result.
            with FileLock(job.directory / "lock"):
                if job.result() is None:
                    _prepare(job)
                    result = import_module(f"zoo_harness.{job.kind}").run(job)
                    write_json(job.result_file, result)
        except BaseException as error:  # a plugin may raise anything; the bench goes on and shows it
            traceback.print_exc()
            sys.stderr.flush()
            write_json(
                job.failure_file,
                {"identity": job.identity, "user": isinstance(error, ZooError), "error": _say(error)},
            )
            os._exit(1)
        sys.stdout.flush()
        os._exit(0)  # a thread that a plugin left running must not keep the process


def _prepare(job: Job) -> None:
    """One thread on a CPU: two threads with one core busy take ten times as long as one. Nothing from the network."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import torch
    from tqdm import tqdm

    # tqdm's own lock is a semaphore between processes, which os._exit would leave behind.
    tqdm.set_lock(threading.RLock())
    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    if job.kind == "score":
        _block_algorithms(job)


def _block_algorithms(job: Job) -> None:
    """Load the plugins without those that provide algorithms: what is scored must not run beside the scorer."""
    from zoo_core import plugins

    loaded = plugins.load(block=job.payload["algorithm_plugins"])
    plugins.plugins = lambda: loaded  # type: ignore[assignment]
    for module in ("zoo_core.data", "zoo_core.models", "zoo_core.reward"):
        import_module(module).plugins = plugins.plugins  # type: ignore[attr-defined]


def _say(error: BaseException) -> str:
    if isinstance(error, ZooError):
        return " ".join(str(error).split())
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]
