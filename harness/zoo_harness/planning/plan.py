"""From a pipeline to the jobs of its bench: what is trained, labelled, calibrated and scored, in which order."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from zoo_leaderboard.schema import BEST_OF

from zoo_core.records import Algorithm
from zoo_core.registry.plugins import plugins
from zoo_harness.job import Job, identify
from zoo_harness.job import Kind as JobKind
from zoo_harness.planning.identity import code_of_job
from zoo_harness.planning.pipeline import Pipeline, Row
from zoo_harness.spec.schema import FOR_ALGORITHMS, FOR_GOLD, FROM_PAIRS, GOLD_PAIRS, LabelPairs, Spec

UNIMPORTANT = {"name", "preset", "folder", "checkpoint_seconds", "budget", "algorithms", "seeds"}
"""Keys of a spec that change no result, or are part of a bench's identity in another form."""
GOLD_SEED = 10_000
"""Added to the seed of a judge's training: another head and another order than the reward model's."""

Stages = Mapping[str, Job]
"""The shared jobs of one seed: start, pairs, reward, judge, and a calibration for each reward."""


@dataclass
class Plan:
    """A bench that is ready to run."""

    pipeline: Pipeline
    probe: Mapping[str, Any]
    budget: float
    output: Path
    cache: Path

    @property
    def spec(self) -> Spec:
        """The spec."""
        return self.pipeline.spec

    @cached_property
    def identity(self) -> str:
        """Hash of everything that the results depend on."""
        entries = [row.entry.model_dump() for row in self.pipeline.rows]
        algorithms = [*self.pipeline.stages, *(row.algorithm for row in self.pipeline.rows)]
        code = [self._code("train", algorithm) for algorithm in algorithms]
        code += [self._code(kind) for kind in ("label_pairs", "calibrate", "score")]
        return identify(self._world, self.budget, entries, code)

    def _code(self, kind: JobKind, algorithm: Algorithm | None = None) -> str:
        return code_of_job(kind, algorithm, self.spec.rollout_engine)

    @cached_property
    def _world(self) -> dict[str, Any]:
        spec = self.spec.model_dump(mode="json", exclude=UNIMPORTANT)
        data = {kind: found["sha256"] for kind, found in self.probe["data"].items()}
        return {
            "spec": spec,
            "base": self.probe["base"]["files"],
            "data": data,
            "judges": self.probe["judges"],
            "environment": self.probe["environment"],
        }

    def jobs(self, scored: bool = True) -> list[Job]:
        """Every job of the bench, each behind those it needs."""
        found: list[Job] = []
        for seed in range(self.spec.seeds):
            found += self._seed_jobs(seed, scored)
        # Stages of all seeds first, so that no worker waits while cells could run; a score right behind its row.
        place = {"train": 0, "label_pairs": 0, "calibrate": 1, "score": 2}
        return sorted(found, key=lambda job: (0, place[job.kind]) if not job.row else (1 + self._turn(job), 0))

    def _turn(self, job: Job) -> int:
        """Turn of a row: what is only scored for all seeds, then row by row for each seed."""
        rows = [row.name for row in self.pipeline.rows]
        return 1 + rows.index(job.row) + job.seed * len(rows) if job.row in rows else 0

    def _seed_jobs(self, seed: int, scored: bool) -> list[Job]:
        stages = self._stages(seed)
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
            jobs.append(cell)
            if scored:
                jobs.append(self._score(seed, row.name, cell, stages, start_score))
        return jobs

    def _stages(self, seed: int) -> Stages:
        pipeline, stages = self.pipeline, dict[str, Job]()
        if pipeline.start:
            stages["start"] = self._stage(pipeline.start, seed, stages)
        if isinstance(self.spec.preferences, LabelPairs):
            stages["pairs"] = self._label(seed, stages)
        if pipeline.reward_maker and FROM_PAIRS in pipeline.rewards:
            stages["reward"] = self._stage(pipeline.reward_maker, seed, stages)
        if pipeline.reward_maker and self.spec.gold == FROM_PAIRS:
            stages["judge"] = self._stage(pipeline.reward_maker, seed, stages, half=FOR_GOLD)
        for reward in pipeline.rewards:
            stages[f"calibration {reward}"] = self._calibrate(seed, reward, stages)
        return stages

    def _stage(self, algorithm: Algorithm, seed: int, stages: Stages, half: str | None = None) -> Job:
        named = ("start" if algorithm.starts_from != "base" else "", "pairs" if _reads_pairs(algorithm) else "")
        needs = [stages[name] for name in named if name in stages]
        payload = self._training(algorithm, self.pipeline.recipe(algorithm), None, stages, half)
        payload["stages"] = [str(job.directory) for job in needs]
        payload["start"] = str(needs[0].directory / "final") if named[0] in stages else None
        title = f"stage {algorithm.name}"
        if half:
            payload["session_seed"], title = seed + GOLD_SEED, "judge"
        pairs = self.probe["data"][GOLD_PAIRS]["sha256"][seed] if half else None
        return self._shared(
            algorithm.name, "train", title, seed, needs, payload, [self._for("train", algorithm, seed), pairs]
        )

    def _label(self, seed: int, stages: Stages) -> Job:
        needs = [stages["start"]] if "start" in stages else []
        payload = self._materials(stages) | {"start": str(needs[0].directory / "final") if needs else None}
        payload["label_pairs"] = self.spec.model_dump(mode="json")["preferences"]
        most = self.spec.limits.preference_labels
        payload["label_pairs"]["pairs"] = min(
            payload["label_pairs"]["pairs"], most or 10**9
        )  # what nobody reads, no one pays
        depends = [self._for("label_pairs", None, seed), self._judge_hash(payload["label_pairs"]["annotator"])]
        return self._shared("pairs", "label_pairs", "stage pairs", seed, needs, payload, depends)

    def _calibrate(self, seed: int, reward: str, stages: Stages) -> Job:
        trained = stages["reward"] if reward == FROM_PAIRS else None
        needs = [job for job in (stages.get("start"), trained) if job]
        payload = self._materials(stages) | self._reward(reward, stages)
        payload["start"] = str(stages["start"].directory / "final") if "start" in stages else None
        depends = [self._for("calibrate", None, seed), reward, self._judge_hash(reward)]
        return self._shared("calibration", "calibrate", "stage calibration", seed, needs, payload, depends)

    def _shared(
        self, name: str, kind: Any, title: str, seed: int, needs: Sequence[Job], payload: dict[str, Any], depends: Any
    ) -> Job:
        """A job whose result all benches of this user may use: its folder is named by all that it depends on."""
        settings = [payload.get(key) for key in ("settings", "half", "label_pairs")]
        identity = identify(name, depends, settings, [job.identity for job in needs])
        return Job(
            kind=kind,
            title=title,
            directory=self.cache / f"{name}-{identity}",
            needs=tuple(job.identity for job in needs),
            seed=seed,
            identity=identity,
            payload=payload,
        )

    def _cell(self, row: Row, seed: int, stages: Stages) -> Job:
        closure = [stages[name] for name in self.pipeline.closure(row)]
        payload = self._training(row.algorithm, row.entry.settings, self.budget, stages)
        payload["stages"] = [str(job.directory) for job in closure]
        if row.algorithm.starts_from != "base":
            payload["start"] = str(stages["start"].directory / "final")
        if row.reward:
            payload |= self._reward(row.reward, stages)
            payload["calibration"] = str(stages[f"calibration {row.reward}"].directory)
        needs = tuple(job.identity for job in closure)
        files = files_named(row.entry.settings)
        depends = [self._for("train", row.algorithm, seed), row.reward, self._judge_hash(row.reward), files]
        return Job(
            kind="train",
            title=row.name,
            row=row.name,
            seed=seed,
            directory=self.output / "cells" / f"{row.name}-seed{seed}",
            needs=needs,
            identity=identify(depends, row.entry.settings, self.budget, needs),
            payload=payload,
        )

    def _training(
        self,
        algorithm: Algorithm,
        settings: Mapping[str, Any],
        budget: float | None,
        stages: Stages,
        half: str | None = None,
    ) -> dict[str, Any]:
        own = {"algorithm": algorithm.name, "settings": dict(settings), "budget": budget}
        nothing = {"start": None, "reward": None, "reward_model": None, "calibration": None}
        return {**own, **nothing, **self._materials(stages, half)}

    def _materials(self, stages: Stages, half: str | None = None) -> dict[str, Any]:
        """What a training process reads. It is not told of the hidden judge, of tasks, nor of other rows."""
        blind = self.spec.model_copy(update={"gold": None, "tasks": [], "algorithms": []})
        if isinstance(self.spec.preferences, LabelPairs):
            blind = blind.model_copy(update={"preferences": None})  # the annotator may be the hidden judge
        if self.spec.gold == FROM_PAIRS:
            half = half or FOR_ALGORITHMS
        pairs = str(stages["pairs"].directory) if "pairs" in stages else None
        return {"spec": blind.model_dump(mode="json"), "pairs": pairs, "half": half}

    def _reward(self, reward: str | None, stages: Stages) -> dict[str, Any]:
        trained = str(stages["reward"].directory / "final") if reward == FROM_PAIRS else None
        return {"reward": reward, "reward_model": trained}

    def _score(
        self,
        seed: int,
        row: str,
        trained: Job | None,
        stages: Stages,
        start_score: Job | None = None,
        best_of: int | None = None,
    ) -> Job:
        proxy = self.spec.reward
        needed = [trained, *stages.values(), start_score]
        needs = tuple(dict.fromkeys(job.identity for job in needed if job))
        identity = identify(
            "score", self._for("score", None, seed), self._world["spec"], self.probe["judges"], row, needs
        )
        data = {kind: found["sha256"][seed] for kind, found in self.probe["data"].items()}
        start, judge = stages.get("start"), stages.get("judge")
        payload = {
            **self._materials(stages),
            "spec": self.spec.model_dump(mode="json"),
            "weights": str(trained.directory / "final") if trained else self.probe["base_path"],
            "trained": str(trained.directory) if trained else None,
            "best_of": best_of,
            "start": str(start.directory / "final") if start else None,
            "start_result": str(start_score.directory / "result.json") if start_score else None,
            **self._reward(proxy, stages),
            "judge_model": str(judge.directory / "final") if judge else None,
            "calibration": str(stages[f"calibration {proxy}"].directory) if proxy else None,
            "stands_on": [stages[name].identity for name in ("pairs", "reward") if best_of and name in stages],
            "algorithm_plugins": algorithm_plugins(),
        }
        return Job(
            kind="score",
            title=f"score {row}",
            row=row,
            seed=seed,
            directory=self.output / "scores" / f"{row}-seed{seed}",
            needs=needs,
            identity=identify(identity, data, self.budget),
            payload=payload,
        )

    def _for(self, kind: JobKind, algorithm: Algorithm | None, seed: int) -> list[Any]:
        """What a job's result depends on beside its own settings."""
        signals = algorithm.learns_from if algorithm else ("prompts",)
        data = {kind: self.probe["data"][kind]["sha256"][seed] for kind in signals if kind in self.probe["data"]}
        names = ["prompt_tokens", "response_tokens", "precision", "rollout_engine"]
        judge = self._judge_hash(self.spec.judge) if "judge" in signals else None
        spec = {name: getattr(self.spec, name) for name in names}
        name = algorithm.name if algorithm else None
        code = self._code(kind, algorithm)
        return [self.probe["base"]["files"], self.probe["environment"], code, name, data, spec, judge, seed]

    def _judge_hash(self, ref: str | None) -> str | None:
        found: str | None = self.probe["judges"].get(ref)
        return found


def _reads_pairs(algorithm: Algorithm) -> bool:
    return "preferences" in algorithm.learns_from


def algorithm_plugins() -> list[str]:
    """Entry points that provide algorithms: the scorer does not load them."""
    return sorted({plugins().owner("zoo_algorithms", name).name for name in plugins().algorithms})


def files_named(settings: Mapping[str, Any]) -> dict[str, str]:
    """Hash of each file that a setting names: a user may change it between two benches, as a constitution."""
    named = {name: Path(value) for name, value in settings.items() if isinstance(value, str)}
    return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in named.items() if file.is_file()}
