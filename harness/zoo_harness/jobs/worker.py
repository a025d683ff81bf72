"""What runs in the process of a job: quiet, single-threaded on a CPU, every failure written down."""

import contextlib
import errno
import multiprocessing
import os
import re
import shutil
import signal
import sys
import threading
import traceback
from importlib import import_module
from pathlib import Path
from typing import NoReturn, cast

from filelock import Timeout

from zoo_core.errors import PluginError, ZooError, in_one_line
from zoo_core.registry.plugins import load_without
from zoo_core.registry.sealing import load_for_training
from zoo_core.storage.atomic import write_json
from zoo_harness.job import BUSY, Failure, Job, of_file, read_json
from zoo_harness.jobs.hidden import hidden_packages
from zoo_harness.payloads import ToScore, Training
from zoo_harness.results import Begun
from zoo_harness.spec.schema import Spec

GPU = "ZOO_GPU"
"""The environment variable with the GPU that an executor gave to this process, or the GPUs of several."""
ENDS_WITH_STDIN = "ZOO_ENDS_WITH_STDIN"
"""The environment variable of processes that end when their stdin is closed."""

PRELOAD = [
    "torch",
    "transformers",
    "transformers.models.llama.modeling_llama",
    "accelerate",
    "datasets",
    "lm_eval",
    "lm_eval.evaluator",
    "lm_eval.models.huggingface",
    "lm_eval.tasks",
    "scipy.stats",
    "zoo_core.run",
    "zoo_harness.jobs.worker",
    "zoo_harness.jobs.measure",
    "zoo_harness.jobs.train",
    "zoo_harness.jobs.score",
]
"""Imported once by the server that job processes are forked from. No plugin is among them."""


def main(job_file: str, gpu: str | None = None) -> None:
    """Do a job and end this process, the child of an executor's, as `do` says; it sees this GPU, or all."""
    if gpu is not None:  # before torch looks: it does when it is first asked for a GPU
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ[GPU] = gpu
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the bench, which then ends its jobs
    threading.Thread(target=_end_with_parent, daemon=True).start()
    end(do(of_file(Path(job_file))))


def end(code: int) -> NoReturn:
    """End this process, although a thread that a plugin left may be running."""
    sys.stdout.flush()
    os._exit(code)


def do(job: Job, wait: bool = False) -> int:
    """Do a job in this process: leave result.json and return 0, or failure.json and 1.

    Another process may have the job, of this bench or of one that shares a stage with it: wait for its result, or
    return `BUSY`. All that is printed goes to the job's log. Of several processes that do it together the first holds
    the lock and writes; each of the others has a log of its own.
    """
    from zoo_core.compute.processes import is_launched

    number = int(os.environ["RANK"]) if is_launched() else 0
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a log takes whatever is printed
    with (job.directory / (f"log.{number}.txt" if number else "log.txt")).open("a", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            with contextlib.nullcontext() if number else job.lock().acquire(blocking=wait, poll_interval=1):
                job.look_again()
                return _do(job)
        except Timeout:
            return BUSY


def _do(job: Job) -> int:
    from zoo_core.accounting.memory import ran_out
    from zoo_core.compute.processes import accelerator, broadcast, is_launched, is_main_process

    try:
        if is_launched():
            accelerator()  # the processes meet here
        known = broadcast(lambda: _known(job))
        if known is not None:
            return known
        broadcast(lambda: _begin(job))
        _prepare(job)
        result = import_module(f"zoo_harness.jobs.{job.kind}").run(job)
        if is_main_process():
            write_json(job.result_file, result)
    except BaseException as error:  # a plugin may raise anything; the bench goes on and shows it
        traceback.print_exc()
        sys.stderr.flush()
        # What a plugin cannot do is no mistake of the user's: other rows go on without it.
        user = (isinstance(error, ZooError) and not isinstance(error, PluginError)) or disk_is_full(error)
        if job.failure() is None:  # else this one failed because another process was gone
            failure = Failure(identity=job.identity, user=user, memory=ran_out(error), error=_say(error))
            write_json(job.failure_file, failure)
        return 1
    return 0


def _known(job: Job) -> int | None:
    """What to return if the job is done already, or was tried."""
    if job.result() is not None:
        return 0
    return None if job.failure() is None else 1


def _begin(job: Job) -> None:
    """Count the attempt; clear away what another job, with another identity, left in this folder."""
    marker = job.directory / "begun.json"
    begun = cast(Begun | None, read_json(marker))
    if begun is None or begun["identity"] != job.identity:
        begun = {"identity": job.identity, "attempts": 0}
        for path in job.directory.iterdir():
            # What begins with a dot another bench is writing just now: the job.
            if not re.fullmatch(r"\..*|job\.json|lock|log(\.\d+)?\.txt", path.name):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    where = {"gpu": os.environ[GPU]} if os.environ.get(GPU) else {}
    write_json(marker, {**begun, "attempts": begun["attempts"] + 1, **where})


def _end_with_parent() -> None:
    """End this process when the bench is gone: an orphan would hold its lock, and the next bench would wait for it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
    if os.environ.get(ENDS_WITH_STDIN):
        sys.stdin.read()  # returns when the bench, which never writes, is gone
        os._exit(1)


def repeat_bits() -> None:
    """Have torch compute the same bits each time."""
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS may choose other sums each time
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Else every new tensor is filled before it is written: 4 % of an update, and no result depends on it.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def import_beside(spec: Spec) -> None:
    """Let rewards `module:function` be imported from beside the spec; last, so that nothing there hides a library."""
    if spec.folder and spec.folder not in sys.path:
        sys.path.append(spec.folder)


def _prepare(job: Job) -> None:
    """One thread on a CPU: two threads with one core busy take ten times as long as one. Nothing from the network.

    Training and what it stands on compute in the precision of the spec; scores are of float32.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import torch
    from tqdm import tqdm

    from zoo_core.accounting import memory
    from zoo_core.compute.micro_batches import save_memory
    from zoo_core.compute.optimizer import optimize_with
    from zoo_core.compute.precision import compute_in, keep_frozen_in

    # tqdm's own lock is a semaphore between processes, which os._exit would leave behind.
    tqdm.set_lock(threading.RLock())
    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    repeat_bits()
    memory.begin()
    spec = Spec.model_validate(job.payload["spec"])
    import_beside(spec)
    if job.kind == "score":
        # What is scored must not run beside the scorer.
        load_without(ToScore.of(job.payload).algorithm_plugins)
    elif job.kind == "train":
        load_for_training(hidden_packages(Training.of(job.payload)))
    compute_in("fp32" if job.kind == "score" else spec.precision)
    keep_frozen_in("fp32" if job.kind == "score" else spec.weights)
    optimize_with(spec.optimizer)
    save_memory(spec.micro_batch, spec.gradient_checkpointing)


def disk_is_full(error: BaseException) -> bool:
    """Whether a library met a full disk while saving; safetensors wraps the system's error in text."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or "os error 28" in str(error).lower() or "no space left" in str(error).lower()


def _say(error: BaseException) -> str:
    if isinstance(error, ZooError):
        return "\n".join(" ".join(line.split()) for line in str(error).splitlines())
    if disk_is_full(error):
        return f"the disk is full ({error}). What is done stays; make room and run the same command again."
    return in_one_line(error, 500)


if __name__ == "__main__":
    main(sys.argv[1])
