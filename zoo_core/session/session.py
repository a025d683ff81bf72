"""A session holds all that the stages of one run share: models, data, reward, ledger, and kept state."""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import ReferenceType

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from zoo_core.accounting.budget import BudgetWindow
from zoo_core.accounting.ledger import Ledger, bytes_of
from zoo_core.accounting.meter import module_of
from zoo_core.compute.precision import keep_frozen
from zoo_core.compute.sampler import sample_cached
from zoo_core.compute.sharding import local_shard, local_shards
from zoo_core.datasets.encoding import Encoder
from zoo_core.datasets.feeds import check_rows
from zoo_core.errors import PluginError
from zoo_core.judge import CountedJudge, Judge
from zoo_core.reward import Calibration, Reward
from zoo_core.rollout import RolloutEngine
from zoo_core.rows import DataRow
from zoo_core.session.kept import restore, state_of
from zoo_core.session.outside import Outside
from zoo_core.session.still import Still


@dataclass
class Session:
    """All that the stages of one run share. The harness makes it; a training loop reaches it only through `Run`."""

    policy: PreTrainedModel
    encoder: Encoder
    seed: int
    budget: float
    """FLOPs that this run may spend itself; infinite for a stage recipe of fixed length."""
    rows: Mapping[str, Sequence[DataRow]] = field(default_factory=dict)
    """The data sets that the record of the algorithm lists, by name."""
    counted_as: Mapping[str, str] = field(default_factory=dict)
    """Under which name the ledger counts the rows of a data set, where that is not its own."""
    reward: Reward | None = None
    calibration: Calibration | None = None
    judge: Judge | None = None
    engine: RolloutEngine = sample_cached
    directory: Path | None = None
    """The folder of checkpoints; None takes no checkpoints."""
    audited: float = 1 / 64
    """Share of updates that are audited besides the first of each stage, drawn by the seed; 0 audits none at all."""
    checkpoint_seconds: float = 20.0
    at_boundary: Callable[["Session"], None] | None = None
    """A function that is called between two updates, when policy and ledger agree."""
    ledger: Ledger = field(default_factory=Ledger)
    kept: dict[str, Any] = field(default_factory=dict)
    unclaimed: dict[str, Any] = field(default_factory=dict)
    """State from a checkpoint, by name, of objects that were not given to `keep` yet."""
    begun: int = 0
    """Updates that began in this process, of all loops."""
    loops: int = 0
    """Loops that were entered in this process."""
    stage: str = ""
    """The stage whose loop is in an update, or was in one last; "" for the run itself."""
    references: list[tuple[ReferenceType[PreTrainedModel], list[float]]] = field(default_factory=list)
    """Each frozen copy of a policy, as long as somebody has it, and the sums of its weights when it was made."""
    still: Still = field(default_factory=Still)
    """What checkpoints need not write again; in `directory`."""
    clock: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.still.folder = self.directory
        self.outside = Outside(self.ledger, self.budget)

    def begin(self) -> None:
        """Check the rows, meter policy and reward model, and write pad and end tokens into the policy's configs."""
        check_rows(self.rows)
        # A scorer made from the policy finds the last token by it. Hub models often have none, or another one.
        self.policy.config.pad_token_id = self.encoder.tokenizer.pad_token_id
        if self.policy.generation_config is not None:  # so that the trained model ends where it did here
            self.policy.generation_config.eos_token_id = sorted(self.encoder.ends)
        self.ledger.meter.attach(keep_frozen(self.policy), "policy")
        self.ledger.policy_bytes = bytes_of(self.policy.parameters())
        self.kept["policy"] = self.policy
        scorer = module_of(self.reward)
        if scorer is not None:
            self.ledger.meter.attach(scorer, "reward")

    @cached_property
    def counted_judge(self) -> CountedJudge:
        """The judge, which is metered from its first use on, with its calls in the ledger."""
        if self.judge is None:
            raise PluginError("run.judge: this algorithm's record does not list 'judge' under learns_from.")
        return CountedJudge(self.judge, self.ledger)

    def flag_moved_references(self) -> None:
        """Flag a run whose reference is not what it was: its KL would be measured from nothing that is known."""
        left = [(model, before) for weak, before in self.references if (model := weak()) is not None]
        if any(sums_of(model) != before for model, before in left):
            self.ledger.flag("reference moved")

    def tick(self) -> None:
        """Update wall-clock time and peak memory in the ledger."""
        now = time.monotonic()
        self.ledger.wall_seconds += now - self.clock
        self.clock = now
        self.ledger.note_memory()

    def snapshot(self, stage: str, update: int, window: BudgetWindow) -> dict[str, Any]:
        """Return the state of all kept objects and of the ledger at this moment."""
        self.tick()
        return {
            "stage": stage,
            "update": update,
            "window": window.state(),
            "kept": {**self.unclaimed, **{name: state_of(thing) for name, thing in self.kept.items()}},
            "ledger": self.ledger.state_dict(),
        }

    def undo(self, stage: str, update: int, window: BudgetWindow) -> dict[str, Any]:
        """Return a copy of the snapshot, to go back to. Frozen weights stay what they are, so they are not copied."""
        snapshot = self.snapshot(stage, update, window)
        models = [thing for thing in self.kept.values() if isinstance(thing, nn.Module)]
        weights = [weight for model in models for weight in model.parameters() if not weight.requires_grad]
        frozen = {local_shard(weight).data_ptr() for weight in weights}
        states = [state for state in snapshot["kept"].values() if isinstance(state, Mapping)]
        tensors = [value for state in states for value in state.values() if isinstance(value, Tensor)]
        still = {id(tensor): tensor for tensor in tensors if local_shard(tensor).data_ptr() in frozen}
        return copy.deepcopy(snapshot, still)  # deepcopy takes what is in its memo for copied already

    def adopt(self, snapshot: Mapping[str, Any]) -> None:
        """Restore all kept objects and the ledger from a snapshot."""
        self.unclaimed = dict(snapshot["kept"])
        for name, thing in self.kept.items():
            if name in self.unclaimed:
                restore(name, thing, self.unclaimed.pop(name))
        self.ledger.load_state_dict(snapshot["ledger"])
        self.clock = time.monotonic()

    def path(self, name: str) -> Path | None:
        """Return the path of the checkpoint of that name; None if this session takes no checkpoints."""
        return self.directory / f"{name}.safetensors" if self.directory else None


@torch.no_grad()
def sums_of(model: PreTrainedModel) -> list[float]:
    """Return the sum of each weight matrix and the sum of its squares: equal bits give equal sums."""
    weights = [weight.float() for weight in local_shards(model)]
    return torch.stack([part for weight in weights for part in (weight.sum(), weight.square().sum())]).tolist()
