"""The job that scores: weights in, a record out. It runs in a process that has loaded no algorithm plugin.

Only weights are taken from what is scored; architecture, tokenizer, template and lengths are the base's. Every row is
decoded at several temperatures: its own best is chosen on dev prompts and scored on test prompts, so that a gain which
colder sampling alone would give is nobody's gain.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

import torch
from transformers import PreTrainedModel
from zoo_leaderboard.recount import of_items
from zoo_leaderboard.scores import BestOf, Item, Objective, PairAccuracy, Point, Scores, Summary, TaskScore

from zoo_core.accounting.meter import Meter, module_of
from zoo_core.compute.sampler import roll_out
from zoo_core.errors import ColumnError
from zoo_core.models.directories import weights_sha256
from zoo_core.models.loading import load_policy_with
from zoo_core.reward import Calibration, asked, checked, pair_accuracy
from zoo_core.rollout import Rollout
from zoo_core.rows import Preference, Prompt
from zoo_core.session.seeds import derive
from zoo_core.storage.atomic import write_json
from zoo_harness.job import Job, read_json
from zoo_harness.jobs.best_of import worth_by_size
from zoo_harness.jobs.materials import PAIRS_MEASURED, Materials, environment, open_reward
from zoo_harness.jobs.measures import GoldAndProxy, kl, mean, mean_of_groups, means, shorter, show
from zoo_harness.jobs.objective import ROWS, of_demonstrations, of_preferences, of_reward, rows_tell
from zoo_harness.payloads import ToScore
from zoo_harness.results import Scored, ScoredOnDev, Trained, WeightsAt

BATCH = 64


def run(job: Job) -> Scored | ScoredOnDev:
    """Score the final weights in full, and the points on the way on fewer prompts; a trial on dev prompts alone."""
    payload = ToScore.of(job.payload)
    scoring = Scoring(job, payload)
    if payload.dev_only:
        return {
            "identity": job.identity,
            "by_temperature": scoring.on_dev(scoring.load(payload.weights)),
            "weights_sha256": weights_sha256(payload.weights),
            "environment": environment(),
        }
    scores, items = scoring.final(scoring.load(payload.weights))
    return {
        "identity": job.identity,
        "scores": scores,
        "items": items,
        "curve": [scoring.point(point, directory) for point, directory in _points(payload)],
        "weights_sha256": weights_sha256(payload.weights),
        "environment": environment(),
    }


def _points(payload: ToScore) -> list[tuple[WeightsAt, Path]]:
    """Return the points that a training kept, each with its folder."""
    if payload.trained is None:
        return []
    result = cast(Trained | None, read_json(payload.trained / "result.json"))
    return [(point, payload.trained / point["weights"]) for point in (result["points"] if result else [])]


class Scoring:
    """Gold, proxy, prompts and start of one seed, and how a model fares with them."""

    def __init__(self, job: Job, payload: ToScore) -> None:
        self.job = job
        self.spec = payload.spec
        self.materials = Materials.of(payload)
        gold = open_reward(self.spec.gold, payload.gold_model) if self.spec.gold else None
        self.gold_is_trained = payload.gold_model is not None
        proxy, calibration = None, None
        if payload.calibration:
            proxy = open_reward(payload.reward, payload.reward_model)
            calibration = Calibration.load(payload.calibration)
        self.scorers = GoldAndProxy(gold, proxy, calibration)
        self.best_of = payload.best_of or 1
        self.meter = Meter()  # counts what an answer costs
        if self.best_of > 1 and (model := module_of(proxy)) is not None:
            self.meter.attach(model, "reward")
        self.start = self.load(payload.start) if payload.start else None
        start_result = cast(Scored | None, read_json(payload.start_result) if payload.start_result else None)
        self.start_items = start_result["items"] if start_result else None
        self.start_scores = start_result["scores"] if start_result else None
        self.learns_from = payload.learns_from
        imitates = "demonstrations" in payload.learns_from
        self.against_base = payload.selects or (payload.starts_from == "base" and not imitates)

    def load(self, weights: Path) -> PreTrainedModel:
        """Put the weights of a file or directory into the base's architecture; they must fit exactly."""
        model = load_policy_with(weights, self.materials.base)
        model.eval().requires_grad_(False)
        if model.generation_config is not None:  # tasks that generate end where samples end
            model.generation_config.eos_token_id = sorted(self.materials.encoder.ends)
        self.meter.attach(model, "policy")
        return model

    def final(self, model: PreTrainedModel) -> tuple[Scores, list[Item]]:
        """Score final weights: {name: number} and the items behind them."""
        test = self.materials.texts("test_prompts", self.job.seed, self.spec.evaluation.test_prompts)
        by_temperature = self.on_dev(model)
        best = self._best(by_temperature)
        self._say(f"test prompts at temperature {best:g}")
        before = self.meter.total
        rollouts = self.sample(model, test, best, "test")
        per_query = (self.meter.total - before) / len(test)
        samples = [sample for rollout in rollouts for sample in rollout.samples]
        items, parts = self._items(rollouts), getattr(self.scorers.gold, "parts", None)
        found = of_items(items)
        divergence: tuple[float | None, float | None] = (None, None)
        if self.best_of == 1:  # the best of several samples has no next-token distribution
            plain = rollouts if best == 1.0 else self.sample(model, test, 1.0, "kl")
            divergence = self.divergence(model, plain)
        scores: Scores = {
            "gold": found["gold"],
            "proxy": found["proxy"],
            "length": mean(_lengths(rollouts)),
            "ended": found["ended"],
            "by_temperature": by_temperature,
            "temperature": best,
            "flops_per_query": per_query,
            "gold_best": getattr(self.scorers.gold, "best", None),
            "win_start": found["win_start"],
            "distinct": found["distinct"],
            "identical": found["identical"],
            "kl_start": divergence[0],
            "kl_start_per_token": divergence[1],
            "parts": {**means(asked(lambda: parts(samples), "parts of the gold", parts))} if parts else {},
            # Tasks ask for likelihoods: the best of several samples of `start` knows what `start` knows.
            "tasks": self._tasks(model),
            "objective": self._objective(model, by_temperature),
        }
        if self.best_of > 1:
            scores["best_of_curve"] = self._best_of_curve(model, best)
        if self.job.row == "start":
            scores["pair_accuracy"] = self._pair_accuracies()
        return scores, items

    def on_dev(self, model: PreTrainedModel) -> dict[str, Summary]:
        """Return by temperature what answers to dev prompts are worth."""
        evaluation, by_temperature = self.spec.evaluation, dict[str, Summary]()
        dev = self.materials.texts("dev_prompts", self.job.seed, evaluation.dev_prompts)
        # The best of several greedy answers is the greedy answer.
        for temperature in [t for t in evaluation.temperatures if t > 0 or self.best_of == 1] or [1.0]:
            self._say(f"dev prompts at temperature {temperature:g}")
            by_temperature[f"{temperature:g}"] = self.summary(self.sample(model, dev, temperature, "dev"))
        return by_temperature

    def point(self, point: WeightsAt, weights: Path) -> Point:
        """Score weights from the middle of a run: gold, proxy, KL and length at temperature 1."""
        self._say(f"weights at {point['fraction']:.0%} of the budget")
        model = self.load(weights)
        prompts = self.materials.texts("test_prompts", self.job.seed, self.spec.evaluation.curve_prompts)
        rollouts = self.sample(model, prompts, 1.0, "curve")
        summary, (divergence, _) = self.summary(rollouts), self.divergence(model, rollouts)
        return {
            "fraction": point["fraction"],
            "flops": point["flops"],
            "gold": summary["gold"],
            "proxy": summary["proxy"],
            "kl_start": divergence,
            "length": summary["length"],
        }

    def sample(
        self, model: PreTrainedModel, prompts: Sequence[Prompt], temperature: float, purpose: str
    ) -> list[Rollout]:
        """One response per prompt, in batches; the same random numbers for every row of a seed."""
        starts = range(0, len(prompts), BATCH)
        every = (self._roll_out(model, prompts[at : at + BATCH], temperature, purpose, at) for at in starts)
        return [self._best_answers(rollout) if self.best_of > 1 else rollout for rollout in every]

    def _roll_out(
        self, model: PreTrainedModel, prompts: Sequence[Prompt], temperature: float, purpose: str, start: int
    ) -> Rollout:
        """`best_of` responses per prompt."""
        engine, encoder = self.materials.engine(), self.materials.encoder
        batch = encoder.prompts(prompts).repeat(self.best_of)
        generator = torch.Generator(encoder.device).manual_seed(derive(self.job.seed, purpose, temperature, start))
        return roll_out(engine, model, batch, encoder, temperature, generator)

    def _best_answers(self, rollout: Rollout) -> Rollout:
        """Of the answers to each prompt the one that the reward which algorithms saw scores highest."""
        assert self.scorers.proxy is not None
        scores = torch.tensor(checked(self.scorers.proxy, rollout.samples)).view(-1, self.best_of)
        return rollout[scores.argmax(1) + torch.arange(len(scores)) * self.best_of]

    def _best_of_curve(self, model: PreTrainedModel, temperature: float) -> list[BestOf]:
        """What the best of 1, 2, 4 ... samples are worth, estimated without bias on a few test prompts."""
        prompts = self.materials.texts("test_prompts", self.job.seed, self.spec.evaluation.curve_prompts)
        rollout = self._roll_out(model, prompts, temperature, "best of", 0)
        scores = self.scorers.score(rollout)
        return worth_by_size(scores["proxy"] or [], scores["gold"], self.best_of)

    def _objective(self, model: PreTrainedModel, by_temperature: Mapping[str, Summary]) -> Objective | None:
        """What the row was trained for, measured on what it was not given."""
        seed, materials, signals = self.job.seed, self.materials, self.learns_from
        if "reward" in signals and self.start_scores:
            return of_reward(by_temperature, self.start_scores["by_temperature"])
        if not rows_tell(signals):
            return None
        other = self.load(materials.base) if self.against_base or self.start is None else self.start
        if "demonstrations" in signals:
            return of_demonstrations(model, other, materials.encoder, materials.unseen_demonstrations(seed, ROWS))
        return of_preferences(model, other, materials.encoder, materials.unseen_pairs(seed, ROWS))

    def _pair_accuracies(self) -> dict[str, PairAccuracy]:
        """How often gold and proxy rank pairs, that they were not trained on, as people did; and "the shorter wins"."""
        seed, found = self.job.seed, dict[str, PairAccuracy]()
        unseen = self.materials.unseen_pairs(seed, PAIRS_MEASURED)
        for name, scorer in (("gold", self.scorers.gold), ("proxy", self.scorers.proxy)):
            pairs = unseen
            if name == "gold" and self.gold_is_trained:  # it was trained on what algorithms did not see
                pairs = cast(list[Preference], self.materials.rows("preferences", seed)[:PAIRS_MEASURED])
            if scorer is not None and pairs:
                with suppress(ColumnError):  # pairs need not have the columns of prompts, and then nothing is measured
                    accuracy, of_shorter = pair_accuracy(scorer, pairs), pair_accuracy(shorter, pairs)
                    found[name] = {"accuracy": accuracy, "shorter": of_shorter, "pairs": len(pairs)}
        return found

    def summary(self, rollouts: Sequence[Rollout]) -> Summary:
        """Return means over responses."""
        scores = [self.scorers.score(rollout) for rollout in rollouts]
        return {
            "gold": mean_of_groups([one["gold"] for one in scores]),
            "proxy": mean_of_groups([one["proxy"] for one in scores]),
            "length": mean(_lengths(rollouts)),
            "ended": mean([float(end) for rollout in rollouts for end in rollout.ended.tolist()]),
        }

    def _best(self, by_temperature: Mapping[str, Summary]) -> float:
        """The temperature whose dev responses score highest; 1 where nothing scores them."""
        has_gold = self.scorers.gold is not None
        found = {float(t): one["gold"] if has_gold else one["proxy"] for t, one in by_temperature.items()}
        scored = {temperature: score for temperature, score in found.items() if score is not None}
        if not scored:
            return 1.0 if 1.0 in self.spec.evaluation.temperatures else self.spec.evaluation.temperatures[-1]
        return max(scored, key=lambda temperature: scored[temperature])

    def _items(self, rollouts: Sequence[Rollout]) -> list[Item]:
        items: list[Item] = []
        for rollout in rollouts:
            scores = self.scorers.score(rollout)
            for row, sample in enumerate(rollout.samples):
                other = self.start_items[len(items)] if self.start_items else None
                item: Item = {
                    "prompt": show(sample.prompt),
                    "response": sample.response,
                    "ended": sample.ended,
                    "gold": None if scores["gold"] is None else scores["gold"][row],
                    "proxy": None if scores["proxy"] is None else scores["proxy"][row],
                    "gold_start": other["gold"] if other else None,
                    "proxy_start": other["proxy"] if other else None,
                }
                items.append(item)
        return items

    @torch.no_grad()
    def divergence(self, model: PreTrainedModel, rollouts: Sequence[Rollout]) -> tuple[float | None, float | None]:
        """Return KL(policy || start) in nats a response, and a token: exact sums over the vocabulary, temperature 1."""
        if self.start is None:
            return None, None
        total, tokens, responses = 0.0, 0, 0
        for rollout in rollouts:
            total += kl(model, self.start, rollout, rollout.mask).sum().item()
            tokens += int(rollout.mask.sum())
            responses += len(rollout)
        return total / responses, total / tokens

    def _tasks(self, model: PreTrainedModel) -> dict[str, TaskScore]:
        if not self.spec.tasks:
            return {}
        if self.best_of > 1 and self.start_scores:
            return self.start_scores["tasks"]
        self._say("lm-eval tasks")
        from zoo_harness.jobs.lmeval import load_tasks, score_tasks

        tasks = load_tasks(self.spec.tasks)
        return score_tasks(model, self.materials.encoder.tokenizer, tasks, self.spec.evaluation.task_items)

    def _say(self, doing: str) -> None:
        write_json(self.job.progress_file, {"doing": doing, "time": time.time()})


def _lengths(rollouts: Sequence[Rollout]) -> list[float]:
    """Tokens of each response."""
    return [float(tokens) for rollout in rollouts for tokens in rollout.mask.sum(1).tolist()]
