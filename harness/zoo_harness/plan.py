"""From a spec to the jobs of its bench, and to the figures that are shown before anything runs."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from zoo_core.errors import BudgetError, PluginError, SpecError
from zoo_core.hookspecs import Kind
from zoo_core.plugins import plugins
from zoo_core.records import Algorithm
from zoo_harness.jobs import Job, identify
from zoo_harness.settings import configure
from zoo_harness.spec import Entry, Spec

UNIMPORTANT = {"name", "preset", "folder", "checkpoint_seconds", "budget", "algorithms", "seeds"}
"""Keys of a spec that change no result, or are part of a bench's identity in another form."""
FEW_UPDATES = 50
LARGE_STAGE_SHARE = 0.33
MOST_FOR_STAGES = 0.8
"""A row whose stages take more than this share of the budget does not fit in it."""


@dataclass(frozen=True)
class Pipeline:
    """Which algorithms a bench runs, and which stages stand before them. No algorithm is known here by its name."""

    spec: Spec
    rows: tuple[tuple[Entry, Algorithm], ...]
    start: Algorithm | None
    """The algorithm whose stage recipe makes `start`."""
    reward_maker: Algorithm | None
    """The algorithm whose stage recipe makes the reward."""

    @classmethod
    def of(cls, spec: Spec) -> "Pipeline":
        """Look up the algorithms; `SpecError` for unknown ones, wrong settings, or signals that the spec lacks."""
        installed = plugins().algorithms
        entries = spec.algorithms or [Entry(name=a.name, row=a.name) for a in installed.values() if a.competes]
        rows = tuple((entry, plugins().algorithm(entry.name)) for entry in entries)
        if not rows:
            raise SpecError(
                "no algorithm is installed; pip install a plugin such as zoo-ppo. `zoo plugins` shows them."
            )
        for entry, algorithm in rows:
            if not algorithm.competes:
                raise SpecError(f"algorithms: {entry.name!r} prepares a stage of others and is no row by itself.")
            configure(algorithm, entry.settings)
        pipeline = cls(spec, rows, cls._start(rows), cls._reward_maker(spec))
        pipeline._check_signals()
        return pipeline

    @staticmethod
    def _start(rows: Sequence[tuple[Entry, Algorithm]]) -> Algorithm | None:
        """The one algorithm that rows start from; failing that, the one that installed algorithms start from."""
        wanted = {a.starts_from for _, a in rows} - {"base"}
        wanted = wanted or {a.starts_from for a in plugins().algorithms.values()} - {"base"}
        if len(wanted) > 1:
            names = ", ".join(sorted(wanted))
            raise SpecError(f"algorithms: these rows start from different stages ({names}); bench them apart.")
        start = plugins().algorithm(wanted.pop()) if wanted else None
        if start is not None and (start.stage is None or start.starts_from != "base"):
            raise PluginError(f"{start.name!r} has no stage recipe from the base model, so nothing can start from it.")
        return start

    @staticmethod
    def _reward_maker(spec: Spec) -> Algorithm | None:
        if spec.reward != "preferences":
            return None
        makers = [a for a in plugins().algorithms.values() if a.makes == "reward" and a.stage is not None]
        if not makers:
            raise SpecError("reward: no installed plugin trains a reward model; pip install one, or give a scorer.")
        if len(makers) > 1:
            names = ", ".join(maker.name for maker in makers)
            raise SpecError(f"reward: several plugins train a reward model ({names}); uninstall all but one.")
        return makers[0]

    def _check_signals(self) -> None:
        for algorithm in self.trained:
            for signal in algorithm.learns_from:
                if getattr(self.spec, signal) is None:
                    raise SpecError(f"{algorithm.name} learns from {signal}; give it in the spec under `{signal}:`.")

    @property
    def trained(self) -> list[Algorithm]:
        """Every algorithm that runs, stages included."""
        stages = [a for a in (self.start, self.reward_maker) if a is not None]
        return stages + [algorithm for _, algorithm in self.rows]

    @property
    def kinds(self) -> list[Kind]:
        """The data sets that are read."""
        kinds: list[Kind] = ["demonstrations", "preferences", "prompts"]
        wanted = {signal for algorithm in self.trained for signal in algorithm.learns_from}
        scored: list[Kind] = ["dev_prompts", "test_prompts"]
        return [kind for kind in kinds if kind in wanted] + scored

    def measurements(self) -> dict[str, dict[str, Any]]:
        """What the probe measures: rows with their settings, stages with their recipes."""
        wanted: dict[str, dict[str, Any]] = {
            entry.row: {"algorithm": entry.name, "settings": entry.settings} for entry, _ in self.rows
        }
        for stage in (self.start, self.reward_maker):
            if stage is not None:
                wanted[f"stage {stage.name}"] = {"algorithm": stage.name, "settings": dict(stage.stage or {})}
        return wanted


@dataclass
class Plan:
    """A bench that is ready to run."""

    pipeline: Pipeline
    probe: Mapping[str, Any]
    budget: float
    output: Path
    cache: Path
    warnings: list[str] = field(default_factory=list)

    @property
    def spec(self) -> Spec:
        """The spec."""
        return self.pipeline.spec

    @cached_property
    def identity(self) -> str:
        """Hash of everything that the results depend on."""
        return identify(self._world, self.budget, [entry.model_dump() for entry, _ in self.pipeline.rows], code_hash())

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
        place = {"train": 0, "calibrate": 1, "score": 2}
        return sorted(found, key=lambda job: (0, place[job.kind]) if not job.row else (1 + self._turn(job), 0))

    def _turn(self, job: Job) -> int:
        """Turn of a row: the reference rows of all seeds, then row by row for each seed."""
        rows = ["base", "start", *(entry.row for entry, _ in self.pipeline.rows)]
        place = rows.index(job.row)
        return place if place < 2 else place + job.seed * len(rows)

    def _seed_jobs(self, seed: int, scored: bool) -> list[Job]:
        pipeline, jobs = self.pipeline, []
        start = self._stage(pipeline.start, seed, None) if pipeline.start else None
        jobs += [start] if start else []
        reward = None
        if pipeline.reward_maker:
            own_start = start if pipeline.reward_maker.starts_from != "base" else None
            reward = self._stage(pipeline.reward_maker, seed, own_start)
            jobs.append(reward)
        calibration = self._calibrate(seed, start, reward) if self.spec.reward else None
        jobs += [calibration] if calibration else []
        stages = {"start": start, "reward": reward, "calibration": calibration}
        start_score = None
        if scored and start:
            start_score = self._score(seed, "start", start, stages)
            jobs.append(start_score)
        if scored:
            jobs.append(self._score(seed, "base", None, stages, start_score))
        for entry, algorithm in pipeline.rows:
            closure = self.closure(algorithm, stages)
            cell = self._cell(entry, algorithm, seed, closure, stages)
            jobs.append(cell)
            if scored:
                jobs.append(self._score(seed, entry.row, cell, stages, start_score))
        return jobs

    @staticmethod
    def closure(algorithm: Algorithm, stages: Mapping[str, Any]) -> list[Any]:
        """Return the distinct stages a row stands on and pays for, once each."""
        wanted = []
        if algorithm.starts_from != "base":
            wanted.append(stages["start"])
        if "reward" in algorithm.learns_from:
            wanted += [stages["start"], stages["reward"], stages["calibration"]]
        return [stage for place, stage in enumerate(wanted) if stage is not None and stage not in wanted[:place]]

    def _stage(self, algorithm: Algorithm, seed: int, start: Job | None) -> Job:
        payload = self._training(algorithm, dict(algorithm.stage or {}), None, [start] if start else [])
        payload["start"] = str(start.directory / "final") if start else None
        identity = identify(self._for(algorithm, seed), payload["settings"], start.identity if start else None)
        return Job(
            kind="train",
            title=f"stage {algorithm.name}",
            directory=self.cache / f"{algorithm.name}-{identity}",
            needs=(start.identity,) if start else (),
            seed=seed,
            identity=identity,
            payload=payload,
        )

    def _calibrate(self, seed: int, start: Job | None, reward: Job | None) -> Job:
        needs = tuple(job.identity for job in (start, reward) if job)
        identity = identify("calibrate", self._for(None, seed), needs)
        return Job(
            kind="calibrate",
            title="stage calibration",
            directory=self.cache / f"calibration-{identity}",
            needs=needs,
            seed=seed,
            identity=identity,
            payload={
                "spec": self._blind_spec(),
                "start": str(start.directory / "final") if start else None,
                "reward_model": str(reward.directory / "final") if reward else None,
            },
        )

    def _cell(
        self,
        entry: Entry,
        algorithm: Algorithm,
        seed: int,
        closure: list[Job],
        stages: Mapping[str, Job | None],
    ) -> Job:
        payload = self._training(algorithm, entry.settings, self.budget, closure)
        start, reward, calibration = stages["start"], stages["reward"], stages["calibration"]
        payload["start"] = str(start.directory / "final") if start and algorithm.starts_from != "base" else None
        payload["reward_model"] = str(reward.directory / "final") if reward in closure and reward else None
        payload["calibration"] = str(calibration.directory) if calibration in closure and calibration else None
        needs = tuple(job.identity for job in closure)
        return Job(
            kind="train",
            title=entry.row,
            row=entry.row,
            seed=seed,
            directory=self.output / "cells" / f"{entry.row}-seed{seed}",
            needs=needs,
            identity=identify(self._for(algorithm, seed), entry.settings, self.budget, needs),
            payload=payload,
        )

    def _training(
        self, algorithm: Algorithm, settings: dict[str, Any], budget: float | None, stages: list[Job]
    ) -> dict[str, Any]:
        return {
            "algorithm": algorithm.name,
            "settings": settings,
            "budget": budget,
            "spec": self._blind_spec(),
            "stages": [str(job.directory) for job in stages],
            "start": None,
            "reward_model": None,
            "calibration": None,
        }

    def _score(
        self,
        seed: int,
        row: str,
        trained: Job | None,
        stages: Mapping[str, Job | None],
        start_score: Job | None = None,
    ) -> Job:
        start, reward, calibration = stages["start"], stages["reward"], stages["calibration"]
        needed = [job for job in (trained, start, reward, calibration, start_score) if job]
        needs = tuple(dict.fromkeys(job.identity for job in needed))
        identity = identify(
            "score", self._for(None, seed), self._world["spec"], self.probe["judges"], row, needs, self.budget
        )
        directory = self.output / "scores" / f"{row}-seed{seed}"
        return Job(
            kind="score",
            title=f"score {row}",
            row=row,
            seed=seed,
            directory=directory,
            needs=needs,
            identity=identity,
            payload={
                "spec": self.spec.model_dump(mode="json"),
                "weights": str(trained.directory / "final") if trained else self.probe["base_path"],
                "trained": str(trained.directory) if trained else None,
                "start": str(start.directory / "final") if start else None,
                "start_result": str(start_score.directory / "result.json") if start_score else None,
                "reward_model": str(reward.directory / "final") if reward else None,
                "calibration": str(calibration.directory) if calibration else None,
                "algorithm_plugins": algorithm_plugins(),
            },
        )

    def _for(self, algorithm: Algorithm | None, seed: int) -> list[Any]:
        """What a job's result depends on beside its own settings."""
        signals = algorithm.learns_from if algorithm else ("prompts",)
        data = {kind: self.probe["data"][kind]["sha256"][seed] for kind in signals if kind in self.probe["data"]}
        names = ["prompt_tokens", "response_tokens", "rollout_engine"]
        judges = {}
        if algorithm is None or "reward" in algorithm.learns_from:
            names.append("reward")
            judges = {"reward": self.probe["judges"].get("reward")}
        spec = {name: getattr(self.spec, name) for name in names}
        name = algorithm.name if algorithm else None
        return [self.probe["base"]["files"], self.probe["environment"], code_hash(), name, data, spec, judges, seed]

    def _blind_spec(self) -> dict[str, Any]:
        """Return the spec without what a training process must not know: the hidden judge and the tasks."""
        return self.spec.model_copy(update={"gold": None, "tasks": []}).model_dump(mode="json")

    def figures(self) -> dict[str, Any]:
        """Estimate each row: updates, FLOPs, share of stages, seconds, memory, disk; fill `warnings`."""
        self.warnings = []
        costs = self.probe["costs"]
        stage_flops = self._stage_flops(costs)
        rows, seconds = [], 0.0
        for entry, algorithm in self.pipeline.rows:
            cost = costs[entry.row]
            stages = sum(stage_flops[name] for name in self.closure_names(algorithm))
            updates = (self.budget - stages) / cost["flops_per_update"]
            rate = cost["flops_per_update"] / cost["seconds_per_update"]
            row = {
                "row": entry.row,
                "algorithm": entry.name,
                "flops": self.budget,
                "stage_share": stages / self.budget,
                "flops_per_update": cost["flops_per_update"],
                "updates": max(0, int(updates)),
                "seconds": max(0.0, self.budget - stages) / rate,
                "memory_bytes": cost["memory_bytes"],
                "models_resident": cost["models_resident"],
                "disk_bytes": 3 * cost["checkpoint_bytes"],
            }
            rows.append(row)
            seconds += row["seconds"] * self.spec.seeds
            self._warn(row)
        for name, stage in (("start", self.pipeline.start), ("reward", self.pipeline.reward_maker)):
            if stage is not None and name in stage_flops:
                cost = costs[f"stage {stage.name}"]
                seconds += self.spec.seeds * cost["seconds_per_update"] * (cost["updates"] or 0)
        return {
            "identity": self.identity,
            "budget": self.budget,
            "seeds": self.spec.seeds,
            "base": self.probe["base"],
            "data": {k: {n: v for n, v in found.items() if n != "sha256"} for k, found in self.probe["data"].items()},
            "stages": stage_flops,
            "rows": rows,
            "training_seconds_one_core": seconds,
            "warnings": self.warnings,
        }

    def closure_names(self, algorithm: Algorithm) -> list[str]:
        """Name the stages a row pays for."""
        present = {
            "start": "start" if self.pipeline.start else None,
            "reward": "reward" if self.pipeline.reward_maker else None,
            "calibration": "calibration" if self.spec.reward else None,
        }
        return self.closure(algorithm, present)

    def _stage_flops(self, costs: Mapping[str, Any]) -> dict[str, float]:
        flops = {}
        for name, stage in (("start", self.pipeline.start), ("reward", self.pipeline.reward_maker)):
            if stage is not None:
                cost = costs[f"stage {stage.name}"]
                flops[name] = cost["flops_per_update"] * (cost["updates"] or 0)
        if self.spec.reward:
            from zoo_core.calibration import SAMPLES

            tokens = SAMPLES * (self.spec.prompt_tokens + self.spec.response_tokens)
            # Sampling and scoring each pass every token once: twice two FLOPs a parameter.
            flops["calibration"] = 4 * self.probe["base"]["parameters"] * tokens
        return flops

    def _warn(self, row: dict[str, Any]) -> None:
        name, share = row["row"], row["stage_share"]
        if share > MOST_FOR_STAGES:
            self.warnings.append(f"{name} does not fit in this budget: its stages take {share:.0%} of it.")
        elif row["updates"] < 1:
            raise BudgetError(
                f"the budget of {self.budget:.3g} FLOPs is too small for one update of {name}: beside its stages "
                f"({share:.0%}) there is less left than the {row['flops_per_update']:.3g} FLOPs of one. Give a "
                "larger --budget."
            )
        else:
            if share > LARGE_STAGE_SHARE:
                self.warnings.append(f"{name}: its stages take {share:.0%} of the budget.")
            if row["updates"] < FEW_UPDATES:
                self.warnings.append(
                    f"{name}: about {row['updates']} updates fit in the budget; below {FEW_UPDATES} up to 5 % "
                    "stays unused."
                )


def budget_of(spec: Spec, probe: Mapping[str, Any]) -> float:
    """The budget in FLOPs: a time is converted once, by the rate of the slowest row's update, to two digits."""
    if spec.budget_seconds is None:
        return float(spec.budget)
    rates = [cost["flops_per_update"] / cost["seconds_per_update"] for cost in probe["costs"].values()]
    return float(f"{spec.budget_seconds * min(rates):.1e}")


def algorithm_plugins() -> list[str]:
    """Entry points that provide algorithms: the scorer does not load them."""
    return sorted({plugins().owner("zoo_algorithms", name).name for name in plugins().algorithms})


@cache
def code_hash() -> str:
    """Hash of the Python files of core, harness and every loaded plugin: a change of any may change a result."""
    roots = {plugin.module.partition(":")[0].partition(".")[0] for plugin in plugins().plugins if plugin.status == "ok"}
    return identify([package_hash(root) for root in ("zoo_core", "zoo_harness", *sorted(roots))])


def package_hash(package: str) -> str:
    """Hash of the Python files of a package, or of a module that stands alone."""
    found = find_spec(package)
    if found is None or not found.origin:
        raise SpecError(f"the package {package!r} of a plugin cannot be found; install the plugin again.")
    origin = Path(found.origin)
    files = sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]
