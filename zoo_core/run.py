"""`Run` is the object that the harness hands to a training loop: models, data, reward, sampling, budget, checkpoints.

    def train(config, run):
        optimizer = run.keep("optimizer", AdamW(run.policy.parameters()))
        for update in run.updates():
            batch = run.demonstrations.batch(update, config.batch_size)
            ...
            yield {"loss": loss.item()}

Resume. The policy, the ledger and everything that was given to `keep` are restored at the same moment, *when
`updates()` starts*, and never when `keep` is called. So after a crash the code before a loop runs again as it did the
first time (it builds a critic from the initial policy, or copies a reference from it), and the loop skips the updates
that are done. A resumed run ends with the same bits as one that was never interrupted.
"""

import copy
import re
import weakref
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zoo_core.accounting.budget import BudgetWindow
from zoo_core.accounting.ledger import Ledger
from zoo_core.accounting.meter import module_of
from zoo_core.compute.gradients import average_gradients
from zoo_core.compute.optimizer import optimizer_of_the_bench
from zoo_core.compute.precision import freeze, keep_frozen
from zoo_core.compute.processes import broadcast, is_main_process
from zoo_core.compute.sampler import roll_out
from zoo_core.compute.sharding import prepare_model
from zoo_core.datasets.encoding import Encoder
from zoo_core.datasets.feeds import DemonstrationFeed, PreferenceFeed, PromptFeed
from zoo_core.errors import PluginError
from zoo_core.functional import minibatches
from zoo_core.judge import CountedJudge
from zoo_core.models.copies import copied
from zoo_core.models.scorer import Scorer
from zoo_core.reward import Calibration, Reward, Sample, checked
from zoo_core.rollout import Prompts, Responses, Rollout
from zoo_core.rows import DataRow, Demonstration, Preference, Prompt, Text
from zoo_core.session.kept import restore
from zoo_core.session.loop import Loop
from zoo_core.session.rollouts import charge_sampling
from zoo_core.session.seeds import derive, seed_everything
from zoo_core.session.session import Session, sums_of
from zoo_core.storage.atomic import write_rows

Kept = TypeVar("Kept")
Row = TypeVar("Row")
RAW = Calibration(mean=0.0, deviation=1.0)
"""The calibration that leaves scores as they are."""


class Run:
    """A training run, or one stage of it."""

    def __init__(
        self,
        session: Session,
        name: str = "",
        window: BudgetWindow | None = None,
        reward: Reward | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        self._session = session
        self._name = name
        self._reward = reward or session.reward
        self._calibration = calibration if reward else session.calibration
        self._loop = Loop(session, name, window or BudgetWindow(0, session.budget))
        if not name:
            session.begin()
        seed_everything(session.seed, name, "start")

    @property
    def policy(self) -> PreTrainedModel:
        """The causal language model, trained in place. It must be complete at every `yield`, for checkpoints."""
        return self._session.policy

    @property
    def seed(self) -> int:
        """The seed of the cell."""
        return self._session.seed

    @property
    def progress(self) -> float:
        """The progress of this stage from 0 to 1, by its share of the budget or its count of updates, for schedules."""
        return self._loop.progress

    @property
    def update(self) -> int:
        """The update that the loop of this stage is in, or was in last; -1 before the first."""
        return self._loop.update

    @property
    def device(self) -> torch.device:
        """The device that the policy is on."""
        return self._session.encoder.device

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of the policy: a copy, so that what is changed of it changes no data."""
        return copy.deepcopy(self._session.encoder.tokenizer)

    @property
    def response_tokens(self) -> int:
        """The largest number of tokens of a response, sampled or learnt from, EOS included."""
        return self._session.encoder.response_tokens

    @property
    def prompts(self) -> PromptFeed:
        """The prompts to answer: `run.prompts.batch(update, size)`."""
        rows = cast(Sequence[Prompt], self._rows("prompts"))
        return PromptFeed(rows, *self._feeding("prompts"))

    @property
    def demonstrations(self) -> DemonstrationFeed:
        """The prompts with an answer to imitate: `run.demonstrations.batch(update, size)`."""
        rows = cast(Sequence[Demonstration], self._rows("demonstrations"))
        return DemonstrationFeed(rows, *self._feeding("demonstrations"))

    @property
    def preferences(self) -> PreferenceFeed:
        """The prompts with a chosen and a rejected answer: `run.preferences.batch(update, size)`."""
        rows = cast(Sequence[Preference], self._rows("preferences"))
        return PreferenceFeed(rows, *self._feeding("preferences"))

    def reward(self, samples: Sequence[Sample]) -> Float[Tensor, " B"]:
        """Return the scores of samples, calibrated: mean 0 and standard deviation 1 on samples of `start`."""
        ledger = self._session.ledger
        if self._reward is None or self._calibration is None:
            raise PluginError("run.reward: this algorithm's record does not list 'reward' under learns_from.")
        with ledger.meter.during("score"), torch.no_grad():
            scores = torch.tensor(self._asked(self._reward, samples), dtype=torch.float32, device=self.device)
        ledger.reward_queries += len(samples)
        return (scores - self._calibration.mean) / self._calibration.deviation

    @property
    def reward_model(self) -> tuple[Scorer, Calibration] | None:
        """The scorer behind `reward` with its calibration; None if the reward is not a scorer."""
        if isinstance(self._reward, Scorer) and self._calibration:
            return self._reward, self._calibration
        return None

    @property
    def judge(self) -> CountedJudge:
        """The language model that labels texts for RLAIF. Its calls are in the ledger."""
        return self._session.counted_judge

    def scorer(self, model: PreTrainedModel) -> Scorer:
        """Return a reward, for `stage(reward=...)`, made of a sequence classifier that has the policy's tokenizer."""
        return Scorer(model, self._session.encoder.tokenizer)

    def encode(self, pairs: Sequence[tuple[Text, Text]], ended: Sequence[bool] | None = None) -> Responses:
        """Tokenise prompts with one answer each. An answer whose `ended` is False was cut off and gets no EOS."""
        return self._session.encoder.responses(pairs, ended)

    def encode_prompts(self, prompts: Sequence[Text | DataRow]) -> Prompts:
        """Tokenise prompts to sample from: texts, or data rows, whose columns a reward then sees."""
        return self._session.encoder.prompts(prompts)

    def declare(self, role: str, flops: int) -> None:
        """Charge FLOPs that no layer of a model computes, such as the distances of a selection.

        All ranks compute the same; the FLOPs are charged once.
        """
        if is_main_process():
            self._session.ledger.declare(role, flops)

    def write_rows(self, name: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Write rows for people to read into `<name>.jsonl` in the folder of the training."""
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,40}", name):
            raise PluginError(f"run.write_rows: {name!r} must be lower case letters, digits and hyphens.")
        if self._session.directory and is_main_process():
            write_rows(self._session.directory / f"{name}.jsonl", rows)

    def sample(self, prompts: Prompts, temperature: float = 1.0) -> Rollout:
        """Sample one response to each prompt from the policy; temperature 0 is greedy."""
        session = self._session
        self._loop.draws += 1
        generator = self.rng(self.update, f"sample {self._loop.draws}")
        before = session.ledger.flops
        with session.ledger.meter.during("sample"):
            rollout = roll_out(session.engine, self.policy, prompts, session.encoder, temperature, generator)
            charge_sampling(session, rollout, prompts, session.ledger.flops - before)
        session.ledger.generated_tokens += int(rollout.mask.sum())
        return rollout

    def rng(self, update: int, purpose: str) -> torch.Generator:
        """Return a generator that depends on seed, stage, update and purpose only: a resume repeats its numbers."""
        return torch.Generator(self.device).manual_seed(derive(self.seed, self._name, update, purpose))

    def batch_of(self, rows: Sequence[Row], update: int, size: int) -> list[Row]:
        """Return the batch of an update from rows that the algorithm collected, in passes that are shuffled anew.

        The last batch of a pass may be smaller. (Batches of a feed go on into the next pass.)
        """
        epoch, place = divmod(update, -(-len(rows) // size))
        order = list(minibatches(len(rows), size, self.rng(epoch, "order")))[place]
        return [rows[row] for row in order.tolist()]

    def reference(self) -> PreTrainedModel:
        """Return a frozen copy of the policy at the start of this stage. Call it before the loop.

        Weights that are frozen in the policy are shared with it and not copied, since they do not change.
        """
        if self._loop.entered:
            raise PluginError("run.reference() must be called before the loop: inside it the policy has already moved.")
        shared = {id(weight): weight for weight in self.policy.parameters() if not weight.requires_grad}
        frozen = self.frozen("reference", copied(self.policy, shared))
        self._session.references.append((weakref.ref(frozen), sums_of(frozen)))
        return frozen

    def frozen(self, name: str, model: PreTrainedModel) -> PreTrainedModel:
        """Return a model that training only asks: frozen, metered under this name, and in no checkpoint."""
        prepared = prepare_model(freeze(model))
        self._session.ledger.meter.attach(prepared, name)
        return prepared

    def keep(self, name: str, thing: Kept) -> Kept:
        """Register an object that training changes, so that checkpoints hold it; return the object to work with.

        It can be a module (which is also moved to the device, and metered under this name), an optimizer (in whose
        place comes that of the bench: zoo_core/compute/optimizer.py), another object with a `state_dict`, a tensor, or
        a dict or list of numbers, texts and tensors. Tensors, dicts and lists must be changed in place. An object that
        is first kept inside the loop must be made without the global random generators (`with
        torch.random.fork_rng()`), because a resumed run makes it in another update.
        """
        qualified = f"{self._name}/{name}" if self._name else name
        if qualified in self._session.kept:
            raise PluginError(f"run.keep: something is already kept under {qualified!r}; choose another name.")
        if isinstance(thing, nn.Module):
            self._session.ledger.meter.attach(prepare_model(keep_frozen(thing)), name)
            if self._loop.entered:
                average_gradients(thing)
        if isinstance(thing, torch.optim.Optimizer):
            optimizer = optimizer_of_the_bench(thing)
            optimizer.register_step_post_hook(self._count_step)
            thing = cast(Kept, optimizer)
        self._session.kept[qualified] = thing
        if qualified in self._session.unclaimed:
            restore(qualified, thing, self._session.unclaimed.pop(qualified))
        return thing

    def stage(
        self,
        name: str,
        share: float | None = None,
        *,
        reward: Reward | None = None,
        calibration: Calibration = RAW,
    ) -> "Run":
        """Return a run for a part of the budget, with its own updates, progress, names of kept objects, and reference.

        `share` is the stage's part of this run's budget; None gives it all that is left. Call it where the stage
        begins, after the loop of the stage before. `reward` replaces the reward of the bench; `calibrate` (in
        zoo_core.calibration) measures its `calibration`.
        """
        spent, window = self._loop.spent, self._loop.window
        end = window.end if share is None else min(window.end, spent + share * (window.end - window.start))
        qualified = f"{self._name}/{name}" if self._name else name
        if reward is None:
            reward, calibration = self._reward, self._calibration or RAW
        return type(self)(self._session, qualified, BudgetWindow(spent, end), reward, calibration)

    def updates(self, most: int | None = None) -> Iterator[int]:
        """Yield the number of each update, from 0 or the latest checkpoint on, until the budget or `most` is reached.

        Checkpoints are taken between two updates. A stage that is finished yields nothing, because its end is loaded
        from its checkpoint. The engine is zoo_core/session/loop.py.
        """
        return self._loop.updates(most)

    def _asked(self, reward: Reward, samples: Sequence[Sample]) -> list[float]:
        """Return the scores of a reward. Only rank 0 calls a user's rule, which might give every rank other scores.

        All ranks call a model, which divides the samples among them. They also call the reward of a stage, because it
        may call models.
        """
        if reward is self._session.reward and module_of(reward) is None:
            return broadcast(lambda: checked(reward, samples))
        return checked(reward, samples)

    def _count_step(self, *_: object) -> None:
        self._session.ledger.optimizer_steps += 1

    def _rows(self, kind: str) -> Sequence[DataRow]:
        if kind not in self._session.rows:
            raise PluginError(f"run.{kind}: this algorithm's record does not list {kind!r} under learns_from.")
        return self._session.rows[kind]

    def _feeding(self, kind: str) -> tuple[Encoder, Ledger, str, int]:
        counted = self._session.counted_as.get(kind, kind)
        return self._session.encoder, self._session.ledger, counted, derive(self.seed, self._name, kind)
