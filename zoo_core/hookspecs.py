"""The hooks a plugin may implement: project name `zoo`, entry-point group `zoo`.

A plugin is a module that an entry point of group `zoo` names; its functions marked with `hookimpl` are its hooks. It
implements the ones it needs. These docstrings are the reference. No hook may import torch when it is *called to
list* (`zoo_algorithms`, `zoo_tasks`, `zoo_commands`, `zoo_executors`): records name code by path.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pluggy import HookimplMarker, HookspecMarker

from zoo_core.records import Algorithm, Command, Executor, Task
from zoo_core.rows import Kind

if TYPE_CHECKING:
    from zoo_core.judge import Judge
    from zoo_core.reward import Reward
    from zoo_core.rollout import RolloutEngine

hookspec = HookspecMarker("zoo")
hookimpl = HookimplMarker("zoo")


@hookspec
def zoo_algorithms() -> list[Algorithm]:  # type: ignore[empty-body]
    """Return the algorithms this plugin provides."""


@hookspec
def zoo_tasks() -> list[Task]:  # type: ignore[empty-body]
    """Return the lm-eval tasks this plugin provides."""


@hookspec
def zoo_commands() -> list[Command]:  # type: ignore[empty-body]
    """Return the subcommands of `zoo` this plugin provides."""


@hookspec
def zoo_executors() -> list[Executor]:  # type: ignore[empty-body]
    """Return the places this plugin can run the jobs of a bench.

    An executor is a function `run(jobs, finished, workers, watch, options, folder)`: it runs the jobs
    (`zoo_harness.job.Job`, each after those it needs), at most `workers` at once, calls `finished(job, outcome)` in the
    calling process once per job and `watch(running)` about once a second. `options` are the record's, with what the
    user gave by `--option KEY=VALUE` as text; `folder` is for files of its own. It need only say how a process is
    started and how it ended (`Place` of `zoo_harness.executors.scheduler`): `run` of that module does the rest.
    """


@hookspec(firstresult=True)
def zoo_load_model(ref: str) -> Path | None:
    """Return a local directory holding the model that `ref` names, or None if the reference is not this plugin's.

    The directory is an ordinary Hugging Face one (config.json, safetensors weights, tokenizer files) of a causal
    language model or a scorer; the core checks and loads it. `ref` is what the user wrote: `tinytown:base`,
    a path, a hub id. Raise `ModelError` for a reference that is yours and wrong.
    """


@hookspec(firstresult=True)
def zoo_load_dataset(ref: str, kind: Kind, seed: int) -> Iterable[Mapping[str, object]] | None:
    """Return rows in TRL's data set types, or None if the reference is not this plugin's.

    demonstrations: {"prompt", "completion"}; preferences: {"prompt", "chosen", "rejected"}; the prompt kinds:
    {"prompt"}. Each value is a string, or a list of {"role", "content"} (conversational). `seed` is the seed of the
    cell: a simulated world draws its annotators' labels and its subsets by it. A plugin splits by itself: it answers
    the three prompt kinds with disjoint prompts, and its training rows hold no test prompt. (Files of a user are split
    by the core.)
    """


@hookspec(firstresult=True)
def zoo_rollout_engine(name: str) -> "RolloutEngine | None":
    """Return the engine of that name, or None. An engine samples responses: see `zoo_core.rollout.RolloutEngine`."""


@hookspec(firstresult=True)
def zoo_reward(ref: str) -> "Reward | None":
    """Return the reward that `ref` names, or None if the reference is not this plugin's.

    A reward is a callable `list[Sample] -> list[float]` **on text** (see `zoo_core.reward.Reward`): a rule, a scorer
    with any tokenizer, a judge. It may have an attribute `best: float`, the highest score any response can get, a
    method `parts(samples) -> dict[str, list[float]]`, the scores it is made of, `model`, a module that the run meters,
    and `identity: str`, a hash of what it has loaded, so that no result of an older model passes for one of this.
    """


@hookspec(firstresult=True)
def zoo_judge(ref: str) -> "Judge | None":
    """Return the judge that `ref` names, or None if the reference is not this plugin's.

    A judge is a language model that is asked about texts (see `zoo_core.judge.Judge`). A directory or hub id of a
    causal language model is a judge without any plugin.
    """


@hookspec
def zoo_run_started(cell: Mapping[str, object]) -> None:
    """Observe that a cell begins. `cell` is its plan: algorithm, seed, settings, budget."""


@hookspec
def zoo_run_updated(cell: Mapping[str, object], update: int, metrics: Mapping[str, float]) -> None:
    """Observe one update of a running cell and the metrics it yielded."""


@hookspec
def zoo_run_finished(cell: Mapping[str, object], result: Mapping[str, object]) -> None:
    """Observe that a cell ended. `result` holds its status and ledger."""
