"""All contact with lm-eval: tasks by name, their preflight, and scores of a model in memory.

The low-level `evaluate` is used, never `simple_evaluate` (it reseeds the global generators and spends half a second on
an environment dump) and never `use_cache` (its key leaves out the weights).
"""

import contextlib
import difflib
import inspect
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("DISABLE_MULTIPROC", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import lm_eval
import numpy as np
import torch
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from zoo_leaderboard.scores import TaskScore

from zoo_core.errors import SpecError, in_one_line
from zoo_core.records import load_path
from zoo_core.registry.plugins import plugins
from zoo_core.storage.yaml_files import refuse_keys_twice
from zoo_harness.job import identify

BATCH = 32
TRIED = 4
"""Items of each task that are asked before anything is trained."""
UNBOUNDED_CONTEXT = 2048
"""Tokens of a question at most where a model's config names no bound (state spaces)."""
SHARES = ("acc", "acc_norm", "acc_bytes", "exact_match")
"""Metrics that are a share of right answers, 0 to 1: only these tell of a capability that alignment cost."""


def load_tasks(names: Sequence[str]) -> dict[str, ConfigurableTask]:
    """Build the tasks, by the names they give themselves; `SpecError` for one that cannot be had here."""
    tasks: dict[str, ConfigurableTask] = {}
    for name in names:
        task = _load_task(name)
        own = str(task.config.task) if _is_file(name) else name
        if own in tasks:
            raise SpecError(f"tasks: {name!r} holds a task {own!r}, and another one here is called so; rename one.")
        tasks[own] = task
    return tasks


def check_tasks(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tasks: dict[str, ConfigurableTask]) -> None:
    """Ask a model a few items of each task; `SpecError` names the task that cannot be asked or scored."""
    for name, task in tasks.items():
        try:
            score_tasks(model, tokenizer, {name: task}, TRIED)
        except Exception as error:  # what a task's templates and functions raise is its author's to mend
            raise SpecError(
                f"tasks: {name!r} cannot be asked: {type(error).__name__}: {error}. Try it with lm-eval alone, and "
                "mend its YAML file or the functions it names."
            ) from error


def task_hash(task: ConfigurableTask) -> str:
    """Hash of what a task asks and how, its items included."""
    config = {key: value for key, value in task.config.to_dict().items() if key not in ("custom_dataset", "metadata")}
    return identify(_without_functions(config), [str(doc) for doc in task.eval_docs])


def score_tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: dict[str, ConfigurableTask],
    items: int | None,
) -> dict[str, TaskScore]:
    """Score a model on tasks: {task: {"metric", "score", "stderr", "chance", "n"}}.

    `items` of each task are asked, drawn once and the same for every model; None asks all. Random state and train/eval
    mode are as before afterwards.
    """
    if not tasks:
        return {}
    drawn = {name: _drawn(len(task.eval_docs), items) for name, task in tasks.items()}
    with _guard(model):
        longest = getattr(model.config, "max_position_embeddings", None) or UNBOUNDED_CONTEXT
        lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=BATCH, max_length=longest)
        for task in tasks.values():
            task.set_fewshot_seed(seed=0)
        found = lm_eval.evaluate(lm, tasks, samples=drawn, bootstrap_iters=0, log_samples=False)
    return {name: _read(name, found["results"][name], len(drawn[name])) for name in tasks}


def _read(name: str, results: Mapping[str, Any], items: int) -> TaskScore:
    record = plugins().tasks.get(name)
    numbers = {key: value for key, value in results.items() if "," in key and "_stderr" not in key}
    wanted = [key for key in numbers if record and key.partition(",")[0] == record.metric] or list(numbers)
    metric = wanted[0]
    stem, _, filtered = metric.partition(",")
    stderr = results.get(f"{stem}_stderr,{filtered}")
    return {
        "metric": metric,
        "score": float(numbers[metric]),
        "stderr": stderr if isinstance(stderr, float) else None,  # lm-eval writes "N/A" where it has none
        "chance": record.chance if record else None,
        "n": items,
        "is_share": stem in SHARES,
    }


def _without_functions(value: object) -> object:
    """Functions by their source: their address changes from process to process."""
    if isinstance(value, dict):
        return {str(key): _without_functions(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_functions(one) for one in value]
    return inspect.getsource(value) if callable(value) else str(value)


def _drawn(size: int, items: int | None) -> list[int]:
    if items is None or items >= size:
        return list(range(size))
    return sorted(random.Random(0).sample(range(size), items))


def _is_file(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


def _load_task(name: str) -> ConfigurableTask:
    record = plugins().tasks.get(name)
    try:
        if record is not None:
            return ConfigurableTask(config=load_path(record.config)())
        if _is_file(name):
            if not Path(name).is_file():
                raise SpecError(f"tasks: there is no task file {name} (looked in {Path.cwd()}).")
            refuse_keys_twice(Path(name).read_text(encoding="utf-8"), f"tasks: {name}")
            folder = Path(name).resolve().parent
            with contextlib.chdir(folder):  # data files that a task names are relative to its own file
                manager = TaskManager(include_path=str(folder), include_defaults=False)
                return _only(manager, _name_in(manager, Path(name).resolve()), name)
        manager = _lm_eval_manager(name)
        if name not in manager.all_tasks:
            close = difflib.get_close_matches(name, [*manager.all_tasks, *plugins().tasks], n=1)
            hint = f"Did you mean {close[0]!r}? " if close else ""
            known = ", ".join(plugins().tasks) or "none"
            raise SpecError(
                f"tasks: there is no task {name!r}. {hint}Of plugins: {known}; all others are lm-eval's own names."
            )
        return _only(manager, name, name)
    except SpecError:
        raise
    except Exception as error:  # lm-eval raises whatever a task's YAML, functions and data do
        why = in_one_line(error)
        raise SpecError(
            f"tasks: {name!r} cannot be loaded here: {why}. A task of lm-eval needs its data set in the local cache "
            "(run it once while online), or give a YAML task over a local file."
        ) from error


def _name_in(manager: TaskManager, file: Path) -> str:
    """Return the name of the task that a file holds, whatever the file is called."""
    found = [name for name, entry in manager._index.items() if entry.yaml_path and entry.yaml_path.resolve() == file]
    if len(found) != 1:
        raise SpecError(f"tasks: {file} holds {len(found)} tasks; it needs one line `task: name`.")
    return str(found[0])


def _lm_eval_manager(name: str) -> TaskManager:
    # The full index takes six seconds to build; most names stand in a folder that is called like their beginning.
    folder = Path(lm_eval.__file__).parent / "tasks" / name.split("_")[0]
    if folder.is_dir():
        manager = TaskManager(include_path=str(folder), include_defaults=False)
        if name in manager.all_tasks:
            return manager
    return TaskManager()


def _only(manager: TaskManager, task: str, name: str) -> ConfigurableTask:
    loaded = manager.load([task])["tasks"]
    if len(loaded) != 1:
        raise SpecError(f"tasks: {name!r} is a group of {len(loaded)} tasks; name those that you want one by one.")
    return next(iter(loaded.values()))


@contextlib.contextmanager
def _guard(model: PreTrainedModel) -> Iterator[None]:
    state = random.getstate(), np.random.get_state(), torch.get_rng_state(), model.training
    try:
        yield
    finally:
        random.setstate(state[0])
        np.random.set_state(state[1])
        torch.set_rng_state(state[2])
        model.train(state[3])
