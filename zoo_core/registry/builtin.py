"""The core's own hooks, which are asked last: local files and directories, hub ids, Python functions."""

from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from zoo_core.errors import SpecError
from zoo_core.hookspecs import hookimpl
from zoo_core.registry.references import resolve
from zoo_core.rows import Kind

if TYPE_CHECKING:
    from zoo_core.judge import Judge
    from zoo_core.reward import Reward
    from zoo_core.rollout import RolloutEngine


@hookimpl(trylast=True)
def zoo_load_model(ref: str) -> Path | None:
    """Return the directory of a local model or of a hub id."""
    from zoo_core.models.directories import find_model

    return find_model(ref)


@hookimpl(trylast=True)
def zoo_load_dataset(ref: str, kind: Kind, seed: int) -> Iterable[Mapping[str, object]] | None:
    """Return the rows of a user's file, directory or hub id. They have no dev or test prompts: the core splits them."""
    from zoo_core.datasets.files import read_rows

    return None if kind in ("dev_prompts", "test_prompts") else read_rows(ref)


@hookimpl(trylast=True)
def zoo_rollout_engine(name: str) -> "RolloutEngine | None":
    """Return the engine `cached`: plain PyTorch with a key-value cache."""
    from zoo_core.compute.sampler import sample_cached

    return sample_cached if name == "cached" else None


@hookimpl(trylast=True)
def zoo_reward(ref: str) -> "Reward | None":
    """Return a Python function that is named `module:function`, or the scorer of a directory or hub id."""
    from zoo_core.models.scorer import Scorer

    module, colon, name = ref.partition(":")
    if colon and not Path(ref).exists() and all(part.isidentifier() for part in [*module.split("."), name]):
        try:
            function = getattr(import_module(module), name)
        except (Exception, SystemExit) as error:  # a user's module may raise anything
            why = f"{type(error).__name__}: {error}"
            raise SpecError(f"the reward {ref!r} cannot be imported: {why}; it must name module:function") from error
        if not callable(function):
            raise SpecError(f"the reward {ref!r} is {type(function).__name__}, not a function of list[Sample]")
        return function  # type: ignore[no-any-return]
    return Scorer.load(resolve(ref))


@hookimpl(trylast=True)
def zoo_judge(ref: str) -> "Judge | None":
    """Return a causal language model as a judge: of a directory, a hub id, or a plugin (`tinytown:base`)."""
    from zoo_core.models.causal_judge import CausalJudge

    return CausalJudge.load(resolve(ref))
