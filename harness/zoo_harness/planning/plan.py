"""From a pipeline to the jobs of its bench: what is trained, labelled, calibrated and scored, in which order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypedDict

from zoo_leaderboard.schema import BEST_OF, UNIMPORTANT

from zoo_core.records import Algorithm
from zoo_harness.job import Job, identify
from zoo_harness.payloads import Calibrating, Kind, Labelling, Payload, ToScore, Training
from zoo_harness.planning.identity import code_of_job, files_named, saves_memory
from zoo_harness.planning.pipeline import Pipeline, Row, algorithm_plugins
from zoo_harness.planning.trial_jobs import trial_jobs
from zoo_harness.results import Probe
from zoo_harness.spec.schema import FOR_ALGORITHMS, FOR_GOLD, FROM_PAIRS, GOLD_PAIRS, LabelPairs, Spec

GOLD_SEED = 10_000
"""Added to the seed of a gold's training: another head and another order than the reward model's."""

BLIND: Mapping[str, object] = {"gold": None, "tasks": [], "algorithms": [], "budgets": [], "trials": 0}
"""What a training is not told."""
Stages = Mapping[str, Job]
"""The shared jobs of one seed: start, pairs, reward, gold, and a calibration for each reward."""


@dataclass
class Plan:
    """A bench that is ready to run."""

    pipeline: Pipeline
    probe: Probe
    budget: float
    output: Path
    cache: Path

    @property
    def spec(self) -> Spec:
        """The spec."""
        return self.pipeline.spec

    def budget_of(self, row: Row) -> float:
        """FLOPs that a row may spend, stages included: its share of the bench's budget."""
        return self.budget * row.entry.budget_share

    @cached_property
    def identity(self) -> str:
        """Hash of everything that the results depend on."""
        algorithms = [*self.pipeline.stages, *(row.algorithm for row in self.pipeline.rows)]
        code = [self._code("train", algorithm) for algorithm in algorithms]
        code += [self._code(kind) for kind in ("label_pairs", "calibrate", "score")]
        return identify(self._world, self.budget, [row.entry.model_dump() for row in self.pipeline.rows], code)

    @cached_property
    def world_identity(self) -> str:
        """Hash of what all rows of a board share: all but the rows, the count of seeds, and the code."""
        data = {kind: found["sha256"][0] for kind, found in self.probe["data"].items() if found["sha256"]}
        return identify({**self._world, "data": data}, self.budget)

    def _code(self, kind: Kind, algorithm: Algorithm | None = None) -> str:
        return code_of_job(kind, algorithm, self.spec.rollout_engine)

    @cached_property
    def _world(self) -> dict[str, object]:
        return {
            "spec": self.spec.model_dump(mode="json", exclude=UNIMPORTANT),
            "base": self.probe["base"]["files"],
            "data": {kind: found["sha256"] for kind, found in self.probe["data"].items()},
            "hashes": self.probe["hashes"],
            "environment": self.probe["environment"],
        }

    def jobs(self, scored: bool = True) -> list[Job]:
        """Every job of the bench, each behind those it needs."""
        found = [job for seed in self.spec.seed_numbers for job in self._seed_jobs(seed, scored)]
        # Stages of all seeds first, so that no worker waits while cells could run; a score right behind its row.
        place = {"train": 0, "label_pairs": 0, "calibrate": 1, "score": 2}
        return sorted(found, key=lambda job: (0, place[job.kind]) if not job.row else (1 + self._turn(job), 0))

    def _turn(self, job: Job) -> int:
        """Turn of a row: what is only scored for all seeds, then row by row for each seed."""
        rows = [row.name for row in self.pipeline.rows]
        return 1 + rows.index(job.row) + job.seed * len(rows) if job.row in rows else 0

    def _seed_jobs(self, seed: int, scored: bool) -> list[Job]:
        stages = self.stages(seed)
        jobs = list(stages.values())
        start = stages.get("start")
        start_score = self._score(seed, "start", start, stages) if scored and start else None
        if start_score:
            jobs.append(start_score)
        if scored:
            jobs.append(self._score(seed, "base", None, stages, start_score))
            if start and self.spec.reward:
                jobs += [
                    self._score(seed, f"{BEST_OF}{n}", start, stages, start_score, best_of=n)
                    for n in self.spec.evaluation.best_of
                ]
        for row in self.pipeline.rows:
            cell = self._cell(row, seed, stages)
            if row.entry.trials:
                *tried, cell = trial_jobs(row.entry, cell, self._score(seed, row.name, cell, stages))
                jobs += tried
            jobs.append(cell)
            if scored:
                jobs.append(self._score(seed, row.name, cell, stages, start_score, learner=row))
        return jobs

    def stages(self, seed: int) -> Stages:
        """The shared jobs of a seed, each behind those it needs."""
        pipeline, stages = self.pipeline, dict[str, Job]()
        if pipeline.start:
            stages["start"] = self._stage(pipeline.start, seed, stages)
        if isinstance(self.spec.preferences, LabelPairs):
            stages["pairs"] = self._label(seed, stages)
        if pipeline.reward_maker and FROM_PAIRS in pipeline.rewards:
            stages["reward"] = self._stage(pipeline.reward_maker, seed, stages)
        if pipeline.reward_maker and self.spec.gold == FROM_PAIRS:
            stages["gold"] = self._stage(pipeline.reward_maker, seed, stages, half=FOR_GOLD)
        for reward in pipeline.rewards:
            stages[f"calibration {reward}"] = self._calibrate(seed, reward, stages)
        return stages

    def _stage(self, algorithm: Algorithm, seed: int, stages: Stages, half: str | None = None) -> Job:
        reads_pairs = "preferences" in algorithm.learns_from
        named = ("start" if algorithm.starts_from != "base" else "", "pairs" if reads_pairs else "")
        needs = [stages[name] for name in named if name in stages]
        payload = Training(
            **self._reading(stages, half),
            algorithm=algorithm.name,
            settings=self.pipeline.recipe(algorithm),
            stages=[job.directory for job in needs],
            start=needs[0].directory / "final" if named[0] in stages else None,
            session_seed=seed + GOLD_SEED if half else None,
            output=self.output,
        )
        title = "gold" if half else f"stage {algorithm.name}"
        pairs = self.rows_sha256(GOLD_PAIRS, seed) if half else None
        depends = [self._for("train", algorithm, seed), payload.settings, payload.half, pairs]
        processes = self.probe["costs"][f"stage {algorithm.name}"]["processes"]
        job = self._shared(algorithm.name, title, seed, needs, payload, depends)
        return job.model_copy(update={"processes": processes})

    def _label(self, seed: int, stages: Stages) -> Job:
        needs = [stages["start"]] if "start" in stages else []
        wanted, most = self.spec.preferences, self.spec.limits.preference_labels
        assert isinstance(wanted, LabelPairs)
        if most is not None:  # nobody pays for pairs that nobody reads
            wanted = wanted.model_copy(update={"pairs": min(wanted.pairs, most)})
        start = needs[0].directory / "final" if needs else None
        payload = Labelling(**self._reading(stages), start=start, label_pairs=wanted)
        depends = [self._for("label_pairs", None, seed), wanted.model_dump(), self._hash_of(wanted.annotator)]
        return self._shared("pairs", "stage pairs", seed, needs, payload, depends)

    def _calibrate(self, seed: int, reward: str, stages: Stages) -> Job:
        trained = stages["reward"] if reward == FROM_PAIRS else None
        needs = [job for job in (stages.get("start"), trained) if job]
        start = stages["start"].directory / "final" if "start" in stages else None
        payload = Calibrating(
            **self._reading(stages), start=start, reward=reward, reward_model=_reward_model(reward, stages)
        )
        depends = [self._for("calibrate", None, seed), reward, self._hash_of(reward)]
        return self._shared("calibration", "stage calibration", seed, needs, payload, depends)

    def _shared(
        self, name: str, title: str, seed: int, needs: Sequence[Job], payload: Payload, depends: Sequence[object]
    ) -> Job:
        """A job whose result all benches of this user may use: its folder is named by all that it depends on."""
        identity = identify(name, depends, [job.identity for job in needs])
        return Job(
            kind=payload.kind,
            title=title,
            directory=self.cache / f"{name}-{identity}",
            needs=tuple(job.identity for job in needs),
            seed=seed,
            identity=identity,
            payload=payload.to_json(),
        )

    def _cell(self, row: Row, seed: int, stages: Stages) -> Job:
        closure = [stages[name] for name in self.pipeline.closure(row)]
        payload = Training(
            **self._reading(stages),
            algorithm=row.algorithm.name,
            settings=row.entry.settings,
            budget=self.budget_of(row),
            budget_share=row.entry.budget_share,
            stages=[job.directory for job in closure],
            start=stages["start"].directory / "final" if row.algorithm.starts_from != "base" else None,
            shuffled=row.entry.control == "shuffled",
            reward=row.reward,
            reward_model=_reward_model(row.reward, stages),
            calibration=stages[f"calibration {row.reward}"].directory if row.reward else None,
            output=self.output,
        )
        needs = tuple(job.identity for job in closure)
        depends: list[object] = [self._for("train", row.algorithm, seed), row.reward, self._hash_of(row.reward)]
        depends += [files_named(row.entry.settings), *([row.entry.control] if row.entry.control else [])]
        return Job(
            kind=payload.kind,
            title=row.name,
            row=row.name,
            seed=seed,
            directory=self.output / "cells" / f"{row.name}-seed{seed}",
            needs=needs,
            processes=self.probe["costs"][row.name]["processes"],
            identity=identify(depends, row.entry.settings, self.budget_of(row), needs),
            payload=payload.to_json(),
        )

    def _reading(self, stages: Stages, half: str | None = None) -> "_Read":
        """What a training process reads. It is not told of gold, of tasks, nor of other rows."""
        blind = self.spec.model_copy(update=BLIND)
        if isinstance(self.spec.preferences, LabelPairs):
            blind = blind.model_copy(update={"preferences": None})  # the annotator may be gold
        if self.spec.gold == FROM_PAIRS:
            half = half or FOR_ALGORITHMS
        return {"spec": blind, "pairs": stages["pairs"].directory if "pairs" in stages else None, "half": half}

    def _score(
        self,
        seed: int,
        row: str,
        trained: Job | None,
        stages: Stages,
        start_score: Job | None = None,
        best_of: int | None = None,
        learner: Row | None = None,
    ) -> Job:
        proxy = self.spec.reward
        needed = [trained, *stages.values(), start_score]
        needs = tuple(dict.fromkeys(job.identity for job in needed if job))
        identity = identify(
            "score", self._for("score", None, seed), self._world["spec"], self.probe["hashes"], row, needs
        )
        data = {kind: self.rows_sha256(kind, seed) for kind in self.probe["data"]}
        start, gold = stages.get("start"), stages.get("gold")
        reading: _Read = {**self._reading(stages), "spec": self.spec}
        payload = ToScore(
            **reading,
            weights=trained.directory / "final" if trained else Path(self.probe["base_path"]),
            trained=trained.directory if trained else None,
            best_of=best_of,
            start=start.directory / "final" if start else None,
            start_result=start_score.result_file if start_score else None,
            reward=proxy,
            reward_model=_reward_model(proxy, stages),
            gold_model=gold.directory / "final" if gold else None,
            calibration=stages[f"calibration {proxy}"].directory if proxy else None,
            learns_from=learner.measured(proxy) if learner else [],
            selects=bool(learner and learner.algorithm.stops_early),
            starts_from=learner.algorithm.starts_from if learner else "",
            stands_on=[stages[name].identity for name in ("pairs", "reward") if best_of and name in stages],
            algorithm_plugins=algorithm_plugins(),
        )
        return Job(
            kind=payload.kind,
            title=f"score {row}",
            row=row,
            seed=seed,
            directory=self.output / "scores" / f"{row}-seed{seed}",
            needs=needs,
            identity=identify(identity, data, self.budget),
            payload=payload.to_json(),
        )

    def _for(self, kind: Kind, algorithm: Algorithm | None, seed: int) -> list[object]:
        """What a job's result depends on beside its own settings."""
        signals = algorithm.learns_from if algorithm else ("prompts",)
        data = {kind: self.rows_sha256(kind, seed) for kind in signals if kind in self.probe["data"]}
        names = ["prompt_tokens", "response_tokens", "precision", "rollout_engine"]
        judge = self._hash_of(self.spec.judge) if "judge" in signals else None
        names += saves_memory(self.spec)
        spec = self.spec.model_dump(include=set(names))
        if self.spec.imitates_chosen and "demonstrations" in signals:
            spec["imitated"] = self.spec.preferences  # the rows are counted as labels, by their place
        known = [self.probe["base"]["files"], self.probe["environment"], self._code(kind, algorithm)]
        return [*known, algorithm.name if algorithm else None, data, spec, judge, seed]

    def rows_sha256(self, kind: str, seed: int) -> str:
        """Hash of the rows of a data set that a seed uses."""
        return self.probe["data"][kind]["sha256"][seed - self.spec.first_seed]

    def _hash_of(self, ref: str | None) -> str | None:
        """The probe's hash of a ready-made reward, judge or annotator."""
        return self.probe["hashes"].get(ref) if ref else None


class _Read(TypedDict):
    """What `Reading` says of rows, for every kind of job."""

    spec: Spec
    pairs: Path | None
    half: str | None


def _reward_model(reward: str | None, stages: Stages) -> Path | None:
    return stages["reward"].directory / "final" if reward == FROM_PAIRS else None
