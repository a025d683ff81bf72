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

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zoo_core.accounting.budget import BudgetWindow
from zoo_core.accounting.ledger import Ledger
from zoo_core.accounting.meter import module_of
from zoo_core.compute.gradients import average_gradients
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
from zoo_core.session.seeds import derive, seed_everything
from zoo_core.session.session import Session
from zoo_core.storage.atomic import write_rows

Kept = TypeVar("Kept")
Row = TypeVar("Row")
RAW = Calibration(mean=0.0, deviation=1.0)


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
        """The causal language model, trained in place. Leave it whole at every `yield`."""
        return self._session.policy

    @property
    def seed(self) -> int:
        """The cell's seed."""
        return self._session.seed

    @property
    def progress(self) -> float:
        """How far this stage is, 0 to 1, by its share of the budget or by its count of updates. Schedules use it."""
        return self._loop.progress

    @property
    def update(self) -> int:
        """The update that this stage's loop is in, or was in last; -1 before the first."""
        return self._loop.update

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
        if is_main_process():
            self._session.ledger.declare(role, flops)

    def write_rows(self, name: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Leave rows for people to read, as `<name>.jsonl` beside the trained model."""
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,40}", name):
            raise PluginError(f"run.write_rows: {name!r} must be lower case letters, digits and hyphens.")
        if self._session.directory and is_main_process():
            write_rows(self._session.directory / f"{name}.jsonl", rows)

    def sample(self, prompts: Prompts, temperature: float = 1.0) -> Rollout:
        """Sample one response per prompt from the policy; temperature 0 is greedy."""
        session = self._session
        self._loop.draws += 1
        generator = self.rng(self.update, f"sample {self._loop.draws}")
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
        if self._loop.entered:
            raise PluginError("run.reference() must be called before the loop: inside it the policy has already moved.")
        shared = {id(weight): weight for weight in self.policy.parameters() if not weight.requires_grad}
        frozen = prepare_model(copied(self.policy, shared))
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
            self._session.ledger.meter.attach(prepare_model(thing), name)
            if self._loop.entered:
                average_gradients(thing)
        if isinstance(thing, torch.optim.Optimizer):
            thing.register_step_post_hook(self._count_step)
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
        """Return a run for a part of the budget, with its own counter, progress, names and reference.

        `share` is a part of this run's whole line; None is all that is left of it. To be called where the stage
        begins, behind the loop of the one before. `reward` takes the place of the bench's; `calibrate` (of
        zoo_core.calibration) measures what brings it to mean 0 and deviation 1.
        """
        spent, window = self._loop.spent, self._loop.window
        end = window.end if share is None else min(window.end, spent + share * (window.end - window.start))
        qualified = f"{self._name}/{name}" if self._name else name
        if reward is None:
            reward, calibration = self._reward, self._calibration or RAW
        return type(self)(self._session, qualified, BudgetWindow(spent, end), reward, calibration)

    def updates(self, most: int | None = None) -> Iterator[int]:
        """Count updates, from 0 or from where a checkpoint left off, until the budget (or `most`) is reached.

        Checkpoints are taken when the next update is asked for. A stage that is finished yields nothing: its end is
        loaded. The engine is zoo_core/session/loop.py.
        """
        return self._loop.updates(most)

    def _asked(self, reward: Reward, samples: Sequence[Sample]) -> list[float]:
        """Ask a reward. A rule of the user's is asked by one process: it might not answer twice alike.

        A model is asked by all, who divide the samples; so is what a stage brings, which may ask models.
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
        return self._session.encoder, self._session.ledger, kind, derive(self.seed, self._name, kind)
