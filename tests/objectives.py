"""Does each algorithm improve its own objective? Checks the rows of a finished bench, seed by seed.

What is measured follows from what an algorithm learns from, always against `start` of the same seed:

- a reward: the proxy reward of its responses to test prompts at temperature 1;
- a judge: how likely the judge is to prefer its answer to `start`'s, both orders averaged (1/2 at `start`);
- a teacher (GKD): its divergence from it, on its own answers and on demonstrations that no run was given, in the shares
  of its settings;
- preferences: DPO's loss on pairs that no run was given, with the model that it started from as reference (ln 2 there);
  of what has no reference (SimPO, CPO, ORPO), its own loss beside that of this model;
- demonstrations: its loss on demonstrations that no run was given;
- a selection of demonstrations: that loss against the base's; where a row `<name>-random` stands beside it, against
  that row, trained on as many rows drawn at random, on the unseen rows that pass LIMA's rules.

Whether gold improves is a result and is not asked here. Exits with 1 if any seed of any row fails.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from zoo_gkd.config import GKDConfig
from zoo_gkd.loss import gkd_loss
from zoo_gkd.train import divergences
from zoo_harness.job import Job
from zoo_harness.jobs.materials import LIMITS, Materials
from zoo_harness.jobs.score import Scoring
from zoo_harness.payloads import ToScore
from zoo_harness.spec.schema import Spec
from zoo_lima.config import LIMAConfig
from zoo_lima.selection import Pair, sift
from zoo_lima.train import plain
from zoo_orpo.config import ORPOConfig
from zoo_orpo.loss import odds_ratio_loss
from zoo_rlaif.constitution import Constitution
from zoo_rlaif.labels import compare, drawn
from zoo_sft.loss import sft_loss
from zoo_simpo.config import CPOConfig, SimPOConfig
from zoo_simpo.loss import cpo_loss, simpo_loss

from zoo_core.accounting.ledger import Ledger
from zoo_core.functional import masked_mean, masked_row_mean, masked_sum
from zoo_core.judge import CountedJudge
from zoo_core.models.loading import load_policy
from zoo_core.registry.plugins import plugins
from zoo_core.registry.references import load_judge, load_rows
from zoo_core.rollout import Responses, response_logprobs
from zoo_core.rows import DataRow, Demonstration, Preference

ROWS = 256
BETA = 0.1
CONTROL = "-random"
Verdict = tuple[str, float, float, bool]
"""What was measured, its value for what is compared with, its value for the row, and whether the row is better."""


def main(folder: Path) -> int:
    """Print a line per row and seed; return the number of failures."""
    bench = json.loads((folder / "bench.json").read_text())
    records = [json.loads(path.read_text()) for path in sorted((folder / "records").glob("*.json"))]
    failures = 0
    for record in records:
        if not (folder / "cells" / f"{record['row']}-seed{record['seed']}").is_dir() or CONTROL in record["row"]:
            continue
        what, before, after, better = Seed(folder, Spec(**bench["spec"]), record["seed"], records).verdict(record)
        failures += not better
        said = "ok" if better else "NOT BETTER"
        print(f"{record['row']:12} seed {record['seed']}  {what:38} {before:9.4f} -> {after:9.4f}  {said}", flush=True)
    return failures


@dataclass
class Seed:
    """What rows of one seed are compared with."""

    folder: Path
    spec: Spec
    seed: int
    records: Sequence[dict[str, Any]]

    def verdict(self, record: dict[str, Any]) -> Verdict:
        """Measure a row by what it learns from."""
        if record["reward"]:
            before, after = (self.proxy(row) for row in ("start", record["row"]))
            return "proxy at temperature 1", before, after, after > before
        if "judge" in record["learns_from"]:
            return self.judged(record["row"])
        if "teacher" in record["settings"]:
            return self.distilled(record["row"], GKDConfig(**record["settings"]))
        if "demonstrations" in record["learns_from"]:
            return self.imitation(record["row"], bool(record["stops_early"]))
        if record["algorithm"] in WITHOUT_REFERENCE:
            return self.likelihoods(record)
        return self.preference(record["row"], record["starts_from"])

    def proxy(self, row: str) -> float:
        """Mean proxy reward at temperature 1."""
        record = next(one for one in self.records if (one["row"], one["seed"]) == (row, self.seed))
        return float(record["scores"]["by_temperature"]["1"]["proxy"])

    def imitation(self, row: str, selects: bool) -> Verdict:
        """Loss on unseen demonstrations: against `start`; of a selection against its control, or else the base."""
        control = self.folder / "cells" / f"{row}{CONTROL}-seed{self.seed}"
        name, other = ("base", load_policy(Materials(self.spec).base)) if selects else ("start", self.start)
        if control.is_dir():
            name, other = "control", load_policy(control / "final")
        unseen = self.unseen("demonstrations")
        texts = [Pair(plain(one.prompt), plain(one.completion)) for one in unseen if isinstance(one, Demonstration)]
        if control.is_dir():
            config = LIMAConfig()
            kept, _ = sift(texts, config.shortest, config.longest)
            unseen = [unseen[place] for place in kept]
        batch = self.encoder.responses(
            [(one.prompt, one.completion) for one in unseen if isinstance(one, Demonstration)]
        )
        before, after = nll(other, batch), nll(self.policy(row), batch)
        return f"loss on unseen rows, against {name}", before, after, after < before

    def preference(self, row: str, starts_from: str) -> Verdict:
        """Preference loss on unseen pairs, against the model that the row started from."""
        policy, before = self.policy(row), self.began(starts_from)
        margin = [log_ratio(policy, before, side) for side in self.pairs]
        after = -torch.nn.functional.logsigmoid(BETA * (margin[0] - margin[1])).mean().item()
        return "preference loss on unseen pairs", math.log(2), after, after < math.log(2)

    @torch.no_grad()
    def likelihoods(self, record: dict[str, Any]) -> Verdict:
        """The loss of the row's own method on unseen pairs, beside that of the model that it started from."""
        loss = WITHOUT_REFERENCE[record["algorithm"]]
        config = plugins().algorithm(record["algorithm"]).load_config()(**record["settings"])
        before, after = (
            loss(config, *((response_logprobs(model, side), side.mask) for side in self.pairs)).item()
            for model in (self.began(record["starts_from"]), self.policy(record["row"]))
        )
        return "its own loss on unseen pairs", before, after, after < before

    def began(self, starts_from: str) -> PreTrainedModel:
        """The model that a row started from."""
        return load_policy(Materials(self.spec).base).eval() if starts_from == "base" else self.start

    @cached_property
    def pairs(self) -> list[Responses]:
        """The chosen and the rejected answers of pairs that no run of this bench was given."""
        pairs = [one for one in self.unseen("preferences") if isinstance(one, Preference)]
        return [self.encoder.responses([(one.prompt, getattr(one, side)) for one in pairs])
                for side in ("chosen", "rejected")]  # fmt: skip

    def judged(self, row: str) -> Verdict:
        """How likely the judge of the bench is to prefer the row's answers to those of `start`."""
        scoring = self.scoring
        prompts = scoring.materials.texts("test_prompts", self.seed, ROWS)
        answers = [
            [sample.response for rollout in scoring.sample(model, prompts, 1.0, "judged") for sample in rollout.samples]
            for model in (self.policy(row), self.start)
        ]
        judge = CountedJudge(load_judge(self.spec.judge or self.spec.base), Ledger())
        constitution = Constitution.load(judge.constitution, "comparison")
        principles = drawn(constitution.asked("comparison"), len(prompts), torch.Generator().manual_seed(self.seed))
        texts, couples = [prompt.prompt for prompt in prompts], list(zip(*answers, strict=True))
        labels = [one for one in compare(judge, constitution, principles, texts, couples, self.seed) if one]
        after = sum(label.preference for label in labels) / len(labels)
        return "preferred by the judge to start", 0.5, after, after > 0.5

    def distilled(self, row: str, config: GKDConfig) -> Verdict:
        """Divergence from the teacher in nats per token: of the row, and of `start`."""
        teacher = load_policy(Path(config.teacher)).eval()
        scoring = self.scoring
        prompts = scoring.materials.texts("test_prompts", self.seed, ROWS)
        demonstrations = [one for one in self.unseen("demonstrations") if isinstance(one, Demonstration)]
        given = self.encoder.responses([(one.prompt, one.completion) for one in demonstrations])

        @torch.no_grad()
        def apart(model: PreTrainedModel) -> float:
            sampled = scoring.sample(model, prompts, config.temperature, "distilled")
            pairs = [(one.prompt, one.response) for rollout in sampled for one in rollout.samples]
            own = self.encoder.responses(pairs)
            both = [gkd_loss(divergences(model, teacher, some, config.beta), some.mask).item() for some in (own, given)]
            return config.on_policy_share * both[0] + (1 - config.on_policy_share) * both[1]

        before, after = apart(self.start), apart(self.policy(row))
        return "divergence from the teacher", before, after, after < before

    @cached_property
    def job(self) -> dict[str, Any]:
        """A job that scored a row. It need not be any row's own: where another bench had done that, it is not there."""
        jobs = (json.loads(path.read_text()) for path in self.folder.glob(f"scores/*-seed{self.seed}/job.json"))
        return next(job for job in jobs if job["payload"]["start"])

    @cached_property
    def scoring(self) -> Scoring:
        """What scores the rows of this seed."""
        return Scoring(Job(**self.job), ToScore.of(self.job["payload"]))

    def unseen(self, kind: Any) -> list[DataRow]:
        """Rows behind the limit: no run of this bench was given them."""
        rows = load_rows(getattr(self.spec, kind), kind, self.seed)[getattr(self.spec.limits, LIMITS[kind]) :][:ROWS]
        return [row for row in rows if self.encoder.fits(row.prompt, row.where)]

    def policy(self, row: str) -> PreTrainedModel:
        """The trained model of a row."""
        return load_policy(self.folder / "cells" / f"{row}-seed{self.seed}" / "final").eval()

    @cached_property
    def start(self) -> PreTrainedModel:
        """The checkpoint that rows start from."""
        return load_policy(Path(self.job["payload"]["start"])).eval()

    @cached_property
    def encoder(self) -> Any:
        """Tokenizer and lengths."""
        return Materials(self.spec).encoder


@torch.no_grad()
def nll(model: PreTrainedModel, batch: Responses) -> float:
    """Token mean of the negative log-likelihood."""
    return -masked_mean(response_logprobs(model.eval(), batch), batch.mask).item()


@torch.no_grad()
def log_ratio(policy: PreTrainedModel, reference: PreTrainedModel, batch: Responses) -> torch.Tensor:
    """Sequence log-ratio."""
    return masked_sum(response_logprobs(policy, batch) - response_logprobs(reference, batch), batch.mask)


Side = tuple[torch.Tensor, torch.Tensor]
"""Log-probabilities of the tokens of answers, and their mask."""


def of_simpo(config: SimPOConfig, chosen: Side, rejected: Side) -> torch.Tensor:
    """Equation 6 of SimPO."""
    return simpo_loss(masked_row_mean(*chosen), masked_row_mean(*rejected), config.beta, config.target_margin)


def of_cpo(config: CPOConfig, chosen: Side, rejected: Side) -> torch.Tensor:
    """CPO's preference loss, and imitation of the chosen answers."""
    preference = cpo_loss(masked_sum(*chosen), masked_sum(*rejected), config.beta)
    return preference + config.imitation_coefficient * sft_loss(*chosen)


def of_orpo(config: ORPOConfig, chosen: Side, rejected: Side) -> torch.Tensor:
    """Equation 6 of ORPO."""
    contrast = odds_ratio_loss(masked_row_mean(*chosen), masked_row_mean(*rejected))
    return sft_loss(*chosen) + config.odds_ratio_coefficient * contrast


WITHOUT_REFERENCE: dict[str, Callable[[Any, Side, Side], torch.Tensor]] = {
    "simpo": of_simpo,
    "cpo": of_cpo,
    "orpo": of_orpo,
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path, help="folder of a finished bench, such as zoo-runs/quick")
    sys.exit(min(1, main(parser.parse_args().bench)))
