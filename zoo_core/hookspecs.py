"""The hooks that a plugin may implement. These docstrings are the reference for plugin authors.

A plugin is a module that an entry point of group `zoo` names. Functions that are marked with `hookimpl` and named like
a hook below are its hooks; it implements those that it needs, with any subset of their arguments.

    zoo_algorithms, zoo_tasks, zoo_commands, zoo_executors,     called once, when the plugin is loaded
    zoo_trackers
    zoo_load_model, zoo_load_dataset, zoo_reward, zoo_judge,    called with a reference that a user wrote; the first
    zoo_rollout_engine                                          answer that is not None counts, the core's own is last
    zoo_run_started, zoo_run_updated, zoo_run_finished          called during a training; what they return is ignored

The first five return records, which name code by path, so that listing all plugins is fast: neither the module of a
plugin nor these five may import torch. `zoo plugins` lists every plugin, its hooks, and why one could not be loaded.

A plugin of the group `zoo.gold` brings what training must not see, such as gold and the prompts that are scored. It is
loaded by all processes but those that train, and these cannot import the packages of its distribution either.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pluggy import HookimplMarker, HookspecMarker

from zoo_core.records import Algorithm, Command, Executor, Finished, Progress, Task, Tracker, Training
from zoo_core.rows import Kind

if TYPE_CHECKING:
    from zoo_core.judge import Judge
    from zoo_core.reward import Reward
    from zoo_core.rollout import RolloutEngine

hookspec = HookspecMarker("zoo")
hookimpl = HookimplMarker("zoo")


@hookspec
def zoo_algorithms() -> list[Algorithm]:  # type: ignore[empty-body]
    """Return the algorithms that this plugin provides.

    Each becomes a row that users can name under `algorithms:` of a spec. `zoo_core.records.Algorithm` describes the
    fields of a record, `zoo_core.run.Run` the object that the training generator works with.
    """


@hookspec
def zoo_tasks() -> list[Task]:  # type: ignore[empty-body]
    """Return the lm-eval tasks that this plugin provides.

    Users name them under `tasks:` of a spec, like those of lm-eval. `zoo_core.records.Task` describes the fields.
    """


@hookspec
def zoo_commands() -> list[Command]:  # type: ignore[empty-body]
    """Return the groups of subcommands that this plugin adds to the command `zoo`.

    `zoo <name> ...` runs the record's `typer.Typer`. `zoo_core.records.Command` describes the fields.
    """


@hookspec
def zoo_executors() -> list[Executor]:  # type: ignore[empty-body]
    """Return the places where this plugin can run the jobs of a bench.

    The `run` of a record is a function `run(jobs, finished, workers, watch, options, folder)`. It runs all jobs:

    - `jobs` (`zoo_harness.job.Job`): a job starts after the jobs that it needs, and at most `workers` run at once.
    - `finished(job, outcome)` is to be called once per job, in the calling process.
    - `watch(running)` is to be called about once a second with the jobs that run.
    - `options` are those of the record; values that a user gave by `--option KEY=VALUE` are text.
    - `folder` is a directory for the executor's own files.

    `zoo_harness.executors.scheduler.run` does all of this for a `Place`, an object that can start a process, wait for
    it, tell how it ended, and stop it. So an executor is a `Place` and one call. Its tests subclass
    `zoo_harness.testing.executors.ExecutorSuite`: jobs that succeed, raise, exit, hang and are killed.
    """


@hookspec
def zoo_trackers() -> list[Tracker]:  # type: ignore[empty-body]
    """Return the trackers that this plugin writes to.

    Users switch one on by its name (`tracker:` of a spec). The zoo checks the name, and that its package is installed,
    before anything trains; the observers below, which see the name in `Training.tracker`, do the writing.
    """


@hookspec(firstresult=True)
def zoo_load_model(ref: str) -> Path | None:
    """Return the local directory of the model that `ref` names, or None if the reference is not this plugin's.

    `ref` is the text that the user wrote: `tinytown:base`, a path, a hub id. The directory has the form of Hugging
    Face (config.json, safetensors weights, tokenizer files) and holds a causal language model or a scorer. The core
    checks and loads it. Raise `ModelError` if the reference is this plugin's and wrong.
    """


@hookspec(firstresult=True)
def zoo_load_dataset(ref: str, kind: Kind, seed: int) -> Iterable[Mapping[str, object]] | None:
    """Return the rows of the data set that `ref` names, or None if the reference is not this plugin's.

    The keys of a row depend on `kind`; they are those of TRL's data set types:

        demonstrations                          {"prompt", "completion"}
        preferences                             {"prompt", "chosen", "rejected"}
        prompts, dev_prompts, test_prompts      {"prompt"}

    Each value is a string, or a list of messages {"role", "content"} (conversational). `seed` is the seed of the cell:
    a simulated world draws its annotators' labels by it, and which rows it has. A plugin does its own split: the three
    kinds of prompts are disjoint, and no training row holds a test prompt. The core splits the files of users only.
    Raise `DataError` if the reference is this plugin's and wrong.
    """


@hookspec(firstresult=True)
def zoo_rollout_engine(name: str) -> "RolloutEngine | None":
    """Return the rollout engine of that name, or None if this plugin has no such engine.

    An engine samples the responses of `run.sample`; users choose one by name in the spec (`rollout_engine:`).
    `zoo_core.rollout.RolloutEngine` describes its arguments and results.

    The layers of the policy charge what they compute. An engine that computes elsewhere has an attribute
    `samples_elsewhere`, which is True; `run.sample` then charges what the built-in sampler would have cost for
    responses of the same lengths. An engine that charges too little and does not say so is found in audited updates,
    and its row is flagged.
    """


@hookspec(firstresult=True)
def zoo_reward(ref: str) -> "Reward | None":
    """Return the reward that `ref` names, or None if the reference is not this plugin's.

    A reward is a function of text, `list[Sample] -> list[float]` (`zoo_core.reward.Reward`): a rule, or a scorer with
    a tokenizer of its own. Higher is better. It may have these attributes:

    - `best: float`, the highest score that any response can get.
    - `parts(samples) -> dict[str, list[float]]`, the parts that a score is made of; records keep their means.
    - `model: nn.Module`, the model that computes the scores; the run meters it.
    - `identity: str`, a hash of all that the reward has loaded. If it changes, no result of the old reward is reused.

    Raise a `ZooError` if the reference is this plugin's and wrong. A scorer's directory or hub id, and a function that
    is named `module:function`, need no plugin.
    """


@hookspec(firstresult=True)
def zoo_judge(ref: str) -> "Judge | None":
    """Return the judge that `ref` names, or None if the reference is not this plugin's.

    A judge is a language model that labels texts for RLAIF (`zoo_core.judge.Judge`), for example one on a server. It
    may have an attribute `identity`, as a reward may. The directory or hub id of a causal language model needs no
    plugin.
    """


@hookspec
def zoo_run_started(training: Training) -> None:
    """Observe that a training begins, or goes on from a checkpoint.

    `zoo_core.records.Training` describes it. Nothing that observers are given can be changed. Rank 0 alone calls the
    three observers. If one raises, the training goes on, and its result names the observer under "observer_failures".
    """


@hookspec
def zoo_run_updated(training: Training, progress: Progress) -> None:
    """Observe that a training has made an update.

    `zoo_core.records.Progress` describes how far it is. After a crash, updates since the last checkpoint are made
    again, and seen again, with the same numbers and metrics. The last update of a loop may be undone because it passed
    the budget; then the first one of the next loop has its number. The time that an observer takes is part of the
    training's wall-clock time.
    """


@hookspec
def zoo_run_finished(training: Training, finished: Finished) -> None:
    """Observe that a training ended and its final weights are written. It is not called for a training that failed.

    `zoo_core.records.Finished` describes what it left.
    """
