"""What the harness hands to a training loop: models, data, reward, sampling, budget and memory of all of it.

    def train(config, run):
        optimizer = run.keep("optimizer", AdamW(run.policy.parameters()))
        for update in run.updates():
            batch = run.demonstrations.batch(update, config.batch_size)
            ...
            yield {"loss": loss.item()}

Resume. Everything kept, the policy and the ledger are restored *together, when `updates()` starts*, never when `keep`
is called: code outside loops runs again after a crash in the same world as the first time (a critic is built from the
initial policy, a reference copied from it), loop bodies are skipped. A resumed run ends in the same bits as an
undisturbed one.
"""

import copy
import hashlib
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zoo_core import checkpoint
from zoo_core.audit import ExactCounter
from zoo_core.budget import Line
from zoo_core.data import DataRow, Demonstration, Preference, Prompt, Text
from zoo_core.decoding import sample_cached
from zoo_core.encoding import Encoder
from zoo_core.errors import BudgetError, PluginError, StorageError
from zoo_core.feeds import DemonstrationFeed, PreferenceFeed, PromptFeed, check_rows
from zoo_core.functional import minibatches
from zoo_core.judge import CountedJudge, Judge
from zoo_core.ledger import Ledger, bytes_of
from zoo_core.models import copied
from zoo_core.parallel import from_first, is_first, join_gradients, load_whole, placed
from zoo_core.reward import Calibration, Reward, Sample, Scorer, checked
from zoo_core.rollout import Prompts, Responses, Rollout, RolloutEngine, is_any_of, response_mask
from zoo_core.storage import write_rows

Kept = TypeVar("Kept")
Row = TypeVar("Row")
RAW = Calibration(mean=0.0, deviation=1.0)

AUDITED = 1 / 64
"""Share of updates that are audited beside the first of every stage; which ones is drawn, and not announced."""


@dataclass
class Session:
    """What all stages of one run share. Made by the harness; a training loop has no need of it."""

    policy: PreTrainedModel
    encoder: Encoder
    seed: int
    budget: float
    """FLOPs this run may spend itself; infinite for a stage recipe of fixed length."""
    rows: Mapping[str, Sequence[DataRow]] = field(default_factory=dict)
    """The data sets that the algorithm's record lists, by name."""
    reward: Reward | None = None
    calibration: Calibration | None = None
    judge: Judge | None = None
    engine: RolloutEngine = sample_cached
    directory: Path | None = None
    """Where checkpoints go; None keeps none."""
    checkpoint_seconds: float = 20.0
    at_boundary: Callable[["Session"], None] | None = None
    """Called between updates, when policy and ledger agree."""
    ledger: Ledger = field(default_factory=Ledger)
    kept: dict[str, Any] = field(default_factory=dict)
    unclaimed: dict[str, Any] = field(default_factory=dict)
    """State of a checkpoint whose object has not been kept again yet."""
    clock: float = field(default_factory=time.monotonic)

    @cached_property
    def counted_judge(self) -> CountedJudge:
        """The judge with its calls in the ledger; made, and metered, when it is asked for first."""
        if self.judge is None:
            raise PluginError("run.judge: this algorithm's record does not list 'judge' under learns_from.")
        return CountedJudge(self.judge, self.ledger)

    def tick(self) -> None:
        """Bring wall-clock and peak memory of the ledger up to date."""
        now = time.monotonic()
        self.ledger.wall_seconds += now - self.clock
        self.clock = now
        self.ledger.note_memory()

    def snapshot(self, stage: str, update: int, line: Line) -> dict[str, Any]:
        """Return the state of everything kept, and the ledger, at one moment."""
        self.tick()
        return {
            "stage": stage,
            "update": update,
            "line": line.state(),
            "kept": {**self.unclaimed, **{name: _state(thing) for name, thing in self.kept.items()}},
            "ledger": self.ledger.state_dict(),
        }

    def adopt(self, snapshot: Mapping[str, Any]) -> None:
        """Go back, or forward, to that moment."""
        self.unclaimed = dict(snapshot["kept"])
        for name, thing in self.kept.items():
            if name in self.unclaimed:
                _restored(name, thing, self.unclaimed.pop(name))
        self.ledger.load_state_dict(snapshot["ledger"])
        self.clock = time.monotonic()

    def path(self, name: str) -> Path | None:
        """Where a checkpoint of that name stands."""
        return self.directory / f"{name}.safetensors" if self.directory else None


class Run:
    """A training run, or one stage of it."""

    def __init__(
        self,
        session: Session,
        name: str = "",
        line: Line | None = None,
        reward: Reward | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        self._session = session
        self._name = name
        self._line = line or Line(0, session.budget)
        self._reward = reward or session.reward
        self._calibration = calibration if reward else session.calibration
        self._update = -1
        self._most: int | None = None
        self._draws = 0
        self._entered = False
        self._saved = 0.0
        if not name:
            check_rows(session.rows)
            # A scorer made from the policy finds the last token by this; hub models often have none, or another.
            session.policy.config.pad_token_id = session.encoder.tokenizer.pad_token_id
            if session.policy.generation_config is not None:  # what is trained ends elsewhere as it was sampled here
                session.policy.generation_config.eos_token_id = sorted(session.encoder.ends)
            session.ledger.meter.attach(session.policy, "policy")
            session.ledger.policy_bytes = bytes_of(session.policy.parameters())
            session.kept["policy"] = session.policy
            if isinstance(getattr(session.reward, "model", None), nn.Module):
                session.ledger.meter.attach(session.reward.model, "reward")  # type: ignore[union-attr]
        seed_everything(session.seed, name, "start")

    @property
    def policy(self) -> PreTrainedModel:
        """The causal language model, trained in place. Leave it whole at every `yield`."""
        return self._session.policy

    @property
    def seed(self) -> int:
        """The cell's seed."""
        return self._session.seed

    @property
    def progress(self) -> float:
        """How far this stage is, 0 to 1, by its share of the budget or by its count of updates. Schedules use it."""
        by_count = max(self._update, 0) / self._most if self._most else 0.0
        return max(by_count, self._line.progress(self._spent))

    @property
    def update(self) -> int:
        """The update that this stage's loop is in, or was in last; -1 before the first."""
        return self._update

    @property
    def device(self) -> torch.device:
        """Where the policy is."""
        return self._session.encoder.device

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The policy's tokenizer."""
        return self._session.encoder.tokenizer

    @property
    def response_tokens(self) -> int:
        """Tokens of the longest response that is sampled or learnt from."""
        return self._session.encoder.response_tokens

    @property
    def prompts(self) -> PromptFeed:
        """Prompts to answer: `run.prompts.batch(update, size)`."""
        rows = cast(Sequence[Prompt], self._rows("prompts"))
        return PromptFeed(rows, *self._feeding("prompts"))

    @property
    def demonstrations(self) -> DemonstrationFeed:
        """Prompts with answers to imitate."""
        rows = cast(Sequence[Demonstration], self._rows("demonstrations"))
        return DemonstrationFeed(rows, *self._feeding("demonstrations"))

    @property
    def preferences(self) -> PreferenceFeed:
        """Prompts with a chosen and a rejected answer."""
        rows = cast(Sequence[Preference], self._rows("preferences"))
        return PreferenceFeed(rows, *self._feeding("preferences"))

    def reward(self, samples: Sequence[Sample]) -> Float[Tensor, " B"]:
        """Score texts; mean 0 and standard deviation 1 on samples of the checkpoint that runs start from."""
        ledger = self._session.ledger
        if self._reward is None or self._calibration is None:
            raise PluginError("run.reward: this algorithm's record does not list 'reward' under learns_from.")
        with ledger.meter.during("score"), torch.no_grad():
            scores = torch.tensor(self._asked(self._reward, samples), dtype=torch.float32, device=self.device)
        ledger.reward_queries += len(samples)
        return (scores - self._calibration.mean) / self._calibration.deviation

    @property
    def reward_model(self) -> tuple[Scorer, Calibration] | None:
        """The scorer behind `reward` and what brings it to its units; None if the reward is a rule or a judge."""
        if isinstance(self._reward, Scorer) and self._calibration:
            return self._reward, self._calibration
        return None

    @property
    def judge(self) -> CountedJudge:
        """A language model to ask about texts; every call is in the ledger."""
        return self._session.counted_judge

    def scorer(self, model: PreTrainedModel) -> Scorer:
        """Return the reward that a sequence classifier with the policy's tokenizer gives, for `stage(reward=...)`."""
        return Scorer(model, self._session.encoder.tokenizer)

    def encode(self, pairs: Sequence[tuple[Text, Text]], ended: Sequence[bool] | None = None) -> Responses:
        """Tokenise prompts with an answer each; `ended` tells which sampled answers the policy ended itself."""
        return self._session.encoder.responses(pairs, ended)

    def encode_prompts(self, prompts: Sequence[Text]) -> Prompts:
        """Tokenise prompts to sample from."""
        return self._session.encoder.prompts(prompts)

    def declare(self, role: str, flops: int) -> None:
        """Charge what no layer of a model computes, such as the distances of a selection.

        Several processes all compute it; it is charged once.
        """
        if is_first():
            self._session.ledger.declare(role, flops)

    def write_rows(self, name: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Leave rows for people to read, as `<name>.jsonl` beside the trained model."""
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,40}", name):
            raise PluginError(f"run.write_rows: {name!r} must be lower case letters, digits and hyphens.")
        if self._session.directory and is_first():
            write_rows(self._session.directory / f"{name}.jsonl", rows)

    def sample(self, prompts: Prompts, temperature: float = 1.0) -> Rollout:
        """Sample one response per prompt from the policy; temperature 0 is greedy."""
        session = self._session
        self._draws += 1
        generator = self.rng(self._update, f"sample {self._draws}")
        with session.ledger.meter.during("sample"):
            rollout = roll_out(session.engine, self.policy, prompts, session.encoder, temperature, generator)
        session.ledger.generated_tokens += int(rollout.mask.sum())
        return rollout

    def rng(self, update: int, purpose: str) -> torch.Generator:
        """Return a generator that depends on seed, stage, update and purpose only: resuming repeats its numbers."""
        return torch.Generator(self.device).manual_seed(derive(self.seed, self._name, update, purpose))

    def batch_of(self, rows: Sequence[Row], update: int, size: int) -> list[Row]:
        """Return the collected rows of an update: passes over all of them, each in an order of its own.

        What is left at the end of a pass is a smaller batch, where a feed's batches run on into the next pass.
        """
        epoch, place = divmod(update, -(-len(rows) // size))
        order = list(minibatches(len(rows), size, self.rng(epoch, "order")))[place]
        return [rows[row] for row in order.tolist()]

    def reference(self) -> PreTrainedModel:
        """Return a frozen copy of the policy as it is at this stage's start. To be called before the loop.

        Weights that are frozen in the policy by then, and so stay what they are, are shared with it and not copied.
        """
        if self._entered:
            raise PluginError("run.reference() must be called before the loop: inside it the policy has already moved.")
        shared = {id(weight): weight for weight in self.policy.parameters() if not weight.requires_grad}
        frozen = placed(copied(self.policy, shared))
        frozen.eval().requires_grad_(False)
        self._session.ledger.meter.attach(frozen, "reference")
        return frozen

    def keep(self, name: str, thing: Kept) -> Kept:
        """Register something that training changes, so that checkpoints hold it; return it.

        Modules (placed on the device and metered under this name), optimizers and anything else with
        `state_dict`, tensors, and dicts and lists of numbers, texts and tensors that are changed in place. What is kept
        inside the loop only must be made without the global random generators (`with torch.random.fork_rng()`): a
        resumed run makes it in another update.
        """
        qualified = f"{self._name}/{name}" if self._name else name
        if qualified in self._session.kept:
            raise PluginError(f"run.keep: something is already kept under {qualified!r}; choose another name.")
        if isinstance(thing, nn.Module):
            self._session.ledger.meter.attach(placed(thing), name)
            if self._entered:
                join_gradients(thing)
        if isinstance(thing, torch.optim.Optimizer):
            thing.register_step_post_hook(self._count_step)
        self._session.kept[qualified] = thing
        if qualified in self._session.unclaimed:
            _restored(qualified, thing, self._session.unclaimed.pop(qualified))
        return thing

    def stage(
        self,
        name: str,
        share: float | None = None,
        *,
        reward: Reward | None = None,
        calibration: Calibration = RAW,
    ) -> "Run":
        """Return a run for a part of the budget, with its own counter, progress, names and reference.

        `share` is a part of this run's whole line; None is all that is left of it. To be called where the stage
        begins, behind the loop of the one before. `reward` takes the place of the bench's; `calibrate` (of
        zoo_core.calibration) measures what brings it to mean 0 and deviation 1.
        """
        spent = self._spent
        whole = self._line.end - self._line.start
        end = self._line.end if share is None else min(self._line.end, spent + share * whole)
        qualified = f"{self._name}/{name}" if self._name else name
        if reward is None:
            reward, calibration = self._reward, self._calibration or RAW
        return type(self)(self._session, qualified, Line(spent, end), reward, calibration)

    def updates(self, most: int | None = None) -> Iterator[int]:
        """Count updates, from 0 or from where a checkpoint left off, until the budget (or `most`) is reached.

        Checkpoints are taken here, when the next update is asked for. A stage that is finished yields nothing: its
        end is loaded.
        """
        session, line = self._session, self._line
        if self._entered:
            raise PluginError("run.updates() can be entered once; use run.stage(name) for a second loop.")
        if most is None and line.end == float("inf"):
            raise PluginError("a stage recipe must bound its updates: run.updates(most=...).")
        self._entered, self._most = True, most
        end = session.path(f"end-{self._name or 'run'}")
        if end and from_first(end.exists):
            session.adopt(checkpoint.load(end))
            seed_everything(self.seed, self._name, "end")
            return
        first = self._resume()
        session.ledger.meter.attach_again()
        for thing in session.kept.values():
            if isinstance(thing, nn.Module):
                join_gradients(thing)
        self._saved = time.monotonic()
        yield from self._count(first)
        if end:
            checkpoint.save(end, session.snapshot(self._name, self._update + 1, line))
        session.tick()
        seed_everything(self.seed, self._name, "end")

    def _resume(self) -> int:
        """Adopt the latest checkpoint if it is of this stage; return the update to go on with."""
        now = self._session.path("now")
        if not now or not from_first(now.exists):
            return 0
        state = checkpoint.load(now)
        if state["stage"] != self._name:
            return 0
        self._session.adopt(state)
        self._line.restore(state["line"])
        return int(state["update"])

    def _count(self, first: int) -> Iterator[int]:
        """Yield the updates that fit; undo one that passes the line all the same."""
        ledger, line = self._session.ledger, self._line
        update = first
        while (self._most is None or update < self._most) and line.allows(self._spent):
            undo = None  # gone before the next is made: a copy of all weights and moments at a time is enough
            if line.is_near(ledger.flops):
                undo = copy.deepcopy(self._session.snapshot(self._name, update, line))
            before = ledger.flops
            self._update, self._draws = update, 0
            seed_everything(self.seed, self._name, update)
            ledger.meter.in_loop = True
            try:
                yield from self._audited(update)
            finally:
                ledger.meter.in_loop = False
            ledger.updates += 1
            if self._spent > line.end:
                self._discard(undo, ledger.flops - before, update)
                return
            line.costs.append(ledger.flops - before)
            update += 1
            self._boundary(update)
        if not line.costs and not update:
            raise BudgetError(self._too_small(max(line.costs, default=0)))

    def _boundary(self, update: int) -> None:
        """Take a checkpoint if it is time, once an update is audited, paid for and known to stand."""
        session, now = self._session, self._session.path("now")
        optimizers = (thing for thing in session.kept.values() if isinstance(thing, torch.optim.Optimizer))
        session.ledger.note_models(session.ledger.meter.modules, optimizers)
        if session.at_boundary:
            session.at_boundary(session)
        if now and from_first(lambda: time.monotonic() - self._saved >= session.checkpoint_seconds):
            checkpoint.save(now, session.snapshot(self._name, update, self._line))
            self._saved = time.monotonic()

    def _discard(self, undo: dict[str, Any] | None, cost: int, update: int) -> None:
        if undo is None:
            self._session.ledger.flag(
                "overspent: an update cost more than four times the dearest of the eight before it"
            )
            return
        self._session.adopt(undo)
        self._update = update - 1
        if update == 0:
            raise BudgetError(self._too_small(cost))
        self._session.ledger.flag("the last update was discarded: it would have passed the budget")

    def _too_small(self, cost: int) -> str:
        left = self._line.end - self._line.start
        stage = f" of stage {self._name!r}" if self._name else ""
        return (
            f"the budget is too small for one update{stage}: {left:.3g} FLOPs are left for it and one update costs "
            f"{cost:.3g}. Raise the budget, or lower batch_size or response_tokens."
        )

    def _audited(self, update: int) -> Iterator[int]:
        drawn = random.Random(derive(self.seed, self._name, update, "audit")).random() < AUDITED
        if not (drawn or update == 0):
            yield update
            return
        ledger = self._session.ledger
        before = ledger.metered_here
        with ExactCounter() as counter:
            yield update
        if counter.failed:
            ledger.flag(f"an update could not be audited: {counter.failed}")
            return
        ledger.audit_charged += ledger.metered_here - before
        ledger.audit_counted += counter.total

    @property
    def _spent(self) -> int:
        """FLOPs so far, of all processes; the same number on each, or they would not stop together."""
        self._session.ledger.gather()
        return self._session.ledger.flops

    def _asked(self, reward: Reward, samples: Sequence[Sample]) -> list[float]:
        """Ask a reward. A rule of the user's is asked by one process: it might not answer twice alike.

        A model is asked by all, who divide the samples; so is what a stage brings, which may ask models.
        """
        if reward is self._session.reward and not isinstance(getattr(reward, "model", None), nn.Module):
            return from_first(lambda: checked(reward, samples))
        return checked(reward, samples)

    def _count_step(self, *_: object) -> None:
        self._session.ledger.optimizer_steps += 1

    def _rows(self, kind: str) -> Sequence[DataRow]:
        if kind not in self._session.rows:
            raise PluginError(f"run.{kind}: this algorithm's record does not list {kind!r} under learns_from.")
        return self._session.rows[kind]

    def _feeding(self, kind: str) -> tuple[Encoder, Ledger, str, int]:
        return self._session.encoder, self._session.ledger, kind, derive(self.seed, self._name, kind)


def roll_out(
    engine: RolloutEngine,
    policy: PreTrainedModel,
    prompts: Prompts,
    encoder: Encoder,
    temperature: float,
    generator: torch.Generator,
) -> Rollout:
    """Sample one response per prompt: tokens, mask, texts, and whether each ended."""
    tokens, logprobs = engine(
        policy,
        prompts,
        response_tokens=encoder.response_tokens,
        temperature=temperature,
        eos=encoder.ends,
        pad=encoder.tokenizer.pad_token_id,
        generator=generator,
    )
    mask = response_mask(tokens, encoder.ends)
    joined = Responses.join(prompts, tokens, mask)
    ended = (is_any_of(tokens, encoder.ends) & mask).any(1)
    texts = [encoder.decode(row[kept].tolist()) for row, kept in zip(tokens, mask, strict=True)]
    samples = [
        Sample(prompt, text, bool(stop))
        for prompt, text, stop in zip(prompts.texts, texts, ended.tolist(), strict=True)
    ]
    return Rollout(joined.tokens, joined.attention, joined.prompt_length, mask, logprobs, ended, samples)


def derive(*words: object) -> int:
    """Return a 63-bit seed that depends on the words and on nothing else."""
    return int.from_bytes(hashlib.sha256(repr(words).encode()).digest()[:8]) >> 1


def seed_everything(seed: int, stage: str, moment: int | str) -> None:
    """Seed the global generators, so that dropout, initialisation and `generate` resume too."""
    value = derive(seed, stage, moment)
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.manual_seed(value)


def _state(thing: Any) -> Any:
    return thing.state_dict() if hasattr(thing, "state_dict") else thing


def _restored(name: str, thing: Any, state: Any) -> None:
    """Restore a thing exactly; `StorageError` names the weights that a checkpoint lacks, has too many, or otherwise."""
    try:
        _restore(thing, state)
    except (RuntimeError, ValueError, KeyError, IndexError) as error:
        why = " ".join(str(error).split())
        raise StorageError(
            f"the checkpoint does not fit what this run keeps under {name!r}: {why}. It is of another version of the "
            "plugin, or damaged: delete the cell's folder, and the same command trains it again."
        ) from error


def _restore(thing: Any, state: Any) -> None:
    if isinstance(thing, (nn.Module, torch.optim.Optimizer)):
        load_whole(thing, state)
    elif hasattr(thing, "load_state_dict"):
        thing.load_state_dict(state)
    elif isinstance(thing, dict):
        thing.clear()
        thing.update(state)
    elif isinstance(thing, list):
        thing[:] = state
    elif isinstance(thing, Tensor):
        with torch.no_grad():
            thing.copy_(state)
    else:
        raise PluginError(
            f"run.keep cannot restore a {type(thing).__name__}; keep modules, optimizers, tensors, dicts or lists."
        )
