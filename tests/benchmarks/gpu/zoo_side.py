"""The process of the zoo: trainings, sampling, checkpoints and the peak of the GPU, as a cell of a bench runs them.

zoo_side.py FOLDER [--tiny]      serves; see serving.py
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from base import made
from rows import LEARNING_RATE, Row, row_of, texts_of
from serving import begin_memory, highest_memory, serve, synchronise
from zoo_harness.jobs.worker import repeat_bits

from zoo_core.compute import packing, row_attention, sampler
from zoo_core.compute.precision import compute_in
from zoo_core.datasets.encoding import Encoder
from zoo_core.models.copies import scorer_from
from zoo_core.models.loading import load_policy
from zoo_core.models.scorer import Scorer
from zoo_core.models.tokenizers import load_tokenizer
from zoo_core.registry.plugins import plugins
from zoo_core.reward import Calibration
from zoo_core.rollout import Prompts, response_logprobs
from zoo_core.rows import Demonstration, Preference, Prompt
from zoo_core.run import Run
from zoo_core.session import loop
from zoo_core.session.session import Session

ENDLESS = 1e24
"""FLOPs that no training here spends."""
PLUGINS: dict[str, tuple[str, dict[str, Any]]] = {
    "sft": ("sft", {}),
    "reward": ("reward-model", {"scorer": "last-token"}),  # as TRL's
    "dpo": ("dpo", {}),
    "grpo": ("grpo", {"group_size": 4, "kl_coefficient": 0.04}),
    "rloo": ("rloo", {"samples_per_prompt": 4, "kl_coefficient": 0.05}),
    "ppo": ("ppo", {"epochs": 4}),
}
"""Plugin and settings by the name of a row."""


class Zoo:
    """What the other side asks for."""

    def __init__(self, folder: Path, tiny: bool) -> None:
        self.folder, self.tiny = folder, tiny
        self.base = made(folder, tiny)
        self.tokenizer = load_tokenizer(self.base)

    def session(self, row: Row, directory: Path | None = None) -> tuple[Session, Iterator[dict[str, float]]]:
        """Return a session and its training."""
        name, settings = PLUGINS[row.name]
        record = plugins().algorithm(name)
        own = {"batch_size": row.batch, "learning_rate": LEARNING_RATE, **settings}
        if row.name in ("grpo", "ppo"):
            own["minibatch_size"] = row.batch
        train, config = record.load_train(), record.load_config()(**own)
        pairs = [Preference(**one, where=str(place)) for place, one in enumerate(texts_of(row, self.folder, self.tiny))]
        policy = load_policy(self.base)
        rows: dict[str, Any] = {
            "preferences": pairs,
            "demonstrations": [Demonstration(pair.prompt, pair.chosen, pair.where) for pair in pairs],
            "prompts": [Prompt(pair.prompt, pair.where) for pair in pairs],
        }
        rewarded = "reward" in record.learns_from
        session = Session(
            policy=policy,
            encoder=Encoder(self.tokenizer, row.longest if not row.samples else 96, row.longest, policy.device),
            seed=0,
            budget=ENDLESS,
            rows={kind: rows[kind] for kind in record.learns_from if kind in rows},
            reward=self.reward(policy, row) if rewarded else None,
            calibration=Calibration(mean=150.0, deviation=50.0) if rewarded else None,
            directory=directory,
            **({"checkpoint_seconds": 0.5} if self.tiny else {}),
        )
        return session, train(config, Run(session))

    def reward(self, policy: Any, row: Row) -> Any:
        """Return a reward model as large as the policy for PPO, and for others one that costs no time."""
        if row.name != "ppo":
            return lambda samples: [float(len(sample.response)) for sample in samples]
        return Scorer(scorer_from(policy, seed=0).eval().requires_grad_(False), self.tokenizer)

    def block(self, name: str) -> dict[str, Any]:
        """Train for the updates of a block; return seconds, memory, FLOPs, tokens and which rows were read."""
        row = row_of(name, self.tiny)
        held = begin_memory()
        session, training = self.session(row)
        seconds, flops, lengths = [], [], []
        for _ in range(row.warm_up + row.timed):
            before, began = session.ledger.flops, time.perf_counter()
            lengths.append(next(training).get("length", 0.0))
            synchronise()
            seconds.append(time.perf_counter() - began)
            flops.append(session.ledger.flops - before)
        return {
            "seconds": seconds[row.warm_up :],
            "flops": flops[row.warm_up :],
            "gigabytes": highest_memory(),
            "held": held,
            "audit": session.ledger.audit_counted / session.ledger.audit_charged,
            "device": str(session.encoder.device),
            **self.read(session, row, lengths),
        }

    def read(self, session: Session, row: Row, lengths: list[float]) -> dict[str, Any]:
        """Return the rows that the updates read, in their order, and tokens an update."""
        run = Run.__new__(Run)  # feeds are pure functions of seed and update, so they can be asked again
        run._session, run._name = session, ""
        every, tokens = range(len(lengths)), 0.0
        if row.samples:
            feed, size = run.prompts, row.prompts
            for update in every:
                prompts = feed.batch(update, size).attention.sum().item()
                tokens += prompts * row.batch / size + lengths[update] * row.batch
        else:
            feed, size = (run.demonstrations if row.name == "sft" else run.preferences), row.batch
            tokens = sum(feed.batch(update, size).attention.sum().item() for update in every)
        order = [int(one.where) for update in every for one in feed.take(update, size)]
        return {"tokens": tokens / len(lengths), "order": order}

    def peak(self) -> dict[str, Any]:
        """Return the FLOPs a second of a large product in bf16."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        side = 512 if self.tiny else 8192
        left, right = torch.randn(2, side, side, device=device, dtype=torch.bfloat16).unbind()
        best = 0.0
        for _ in range(6):
            synchronise()
            began = time.perf_counter()
            for _ in range(10):
                left @ right
            synchronise()
            best = max(best, 10 * 2 * side**3 / (time.perf_counter() - began))
        name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
        return {"flops": best, "device": name, "torch": torch.__version__}

    def sample(self, rows: int, tokens: int, turns: int) -> dict[str, Any]:
        """Sample with the built-in sampler, as a cell does; return seconds, steps and tokens of each turn."""
        found: dict[str, Any] = {"seconds": [], "steps": [], "tokens": []}
        held = begin_memory()
        session, _ = self.session(Row("grpo", 4, tokens, 1, 1))
        policy, encoder = session.policy, session.encoder
        prompts: Prompts = encoder.prompts(list(session.rows["prompts"][:rows]))
        for turn in range(turns + 1):
            synchronise()
            began = time.perf_counter()
            some, logprobs = sampler.sample_cached(
                policy,
                prompts,
                response_tokens=tokens,
                temperature=1.0,
                eos=encoder.ends,
                pad=self.tokenizer.pad_token_id,
                generator=torch.Generator(policy.device).manual_seed(turn),
            )
            mask = sampler.response_mask(some, encoder.ends)
            count = int(mask.sum())
            synchronise()
            if turn:  # the first one records
                found["seconds"].append(time.perf_counter() - began)
                found["steps"].append(some.shape[1])
                found["tokens"].append(count)
        found |= {"gigabytes": highest_memory(), "held": held}
        found |= self.recorded(policy)
        return found | self.apart(policy, prompts, some, mask, logprobs)

    def recorded(self, policy: Any) -> dict[str, Any]:
        """Return how many steps were recorded as graphs, and whether recording was refused."""
        from zoo_core.compute.fixed_sampler import _samplers

        known = _samplers.get(policy)
        graphs = known.graphs if known else None
        return {"graphs": len(graphs.recorded) if graphs else 0, "refused": bool(graphs and graphs.refused)}

    @torch.no_grad()
    def apart(self, policy: Any, prompts: Prompts, some: Any, mask: Any, logprobs: Any) -> dict[str, Any]:
        """Return how far the sampler's log-probabilities are from those that training computes of the same tokens."""
        from zoo_core.rollout import Responses

        few = slice(0, 64)
        rows = torch.arange(len(prompts), device=mask.device)[few]
        read = response_logprobs(policy, Responses.join(prompts[rows], some[few], mask[few]))
        off = (read - logprobs[few])[mask[few]]
        return {"logprobs_apart": off.abs().mean().item(), "bias": off.mean().item(), "most": off.abs().max().item()}

    def checkpoints(self, name: str, seconds: float) -> dict[str, Any]:
        """Train so long with checkpoints as a bench takes them by default; return the time that they took."""
        spent, save = [], loop.checkpoint.save

        def timed(*given: Any) -> None:
            synchronise()
            began = time.perf_counter()
            save(*given)
            spent.append(time.perf_counter() - began)

        row = row_of(name, self.tiny)
        with tempfile.TemporaryDirectory(dir=self.folder) as directory:
            session, training = self.session(row, Path(directory))
            next(training)  # kernels are loaded and steps recorded
            loop.checkpoint.save = timed
            try:
                began, updates = time.perf_counter(), 0
                while time.perf_counter() - began < seconds:
                    next(training)
                    updates += 1
                whole = time.perf_counter() - began
            finally:
                loop.checkpoint.save = save
            size = sum(file.stat().st_size for file in Path(directory).rglob("*.safetensors"))
        return {
            "seconds": whole,
            "updates": updates,
            "saved": spent,
            "gigabytes": size / 1e9,
            "checkpoint_seconds": session.checkpoint_seconds,
            "allowed": loop.CHECKPOINTS,
        }


def main(folder: Path, tiny: bool) -> None:
    """Serve."""
    if tiny and not torch.cuda.is_available():  # the paths of GPUs
        packing.AT_ONCE.add("cpu")
        sampler.FIXED.add("cpu")
        row_attention.MOST_PADDING = float("inf")  # torch's attention over rows is for GPUs only
        torch.set_num_threads(1)
    repeat_bits()
    compute_in("bf16")
    zoo = Zoo(folder, tiny)
    serve({"block": zoo.block, "peak": zoo.peak, "sample": zoo.sample, "checkpoints": zoo.checkpoints})


if __name__ == "__main__":
    main(Path(sys.argv[1]), "--tiny" in sys.argv)
