"""Which algorithms a bench runs, and which stages stand before them. No algorithm is known here by its name."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast, get_args

from pydantic import JsonValue

from zoo_core.errors import PluginError, SpecError, did_you_mean
from zoo_core.records import Algorithm, Signal
from zoo_core.registry.plugins import plugins
from zoo_core.rows import Kind
from zoo_harness import budgets, controls, trials
from zoo_harness.faults import Faults
from zoo_harness.spec.schema import FROM_PAIRS, Entry, LabelPairs, Spec
from zoo_harness.spec.settings import configure


@dataclass(frozen=True)
class Row:
    """One row that is trained."""

    entry: Entry
    algorithm: Algorithm
    reward: str | None
    """The reward it learns from; None if from none."""
    at_share_of: str | None = None
    """The row that it is at another share of the budget, if there is one."""

    @property
    def name(self) -> str:
        """What the board calls it."""
        return self.entry.row

    @property
    def reference(self) -> bool:
        """Whether it is shown and not ranked."""
        return self.entry.reference or self.entry.control is not None or self.algorithm.reference

    def measured(self, proxy: str | None) -> list[str]:
        """What its own objective follows from; nothing where it learns from another reward, or is a control."""
        own = self.reward in (None, proxy) and self.entry.control is None
        return [*self.algorithm.learns_from] if own else []


@dataclass(frozen=True)
class LeftOut:
    """A row that was asked for and cannot run, by its plugin's doing."""

    entry: Entry
    algorithm: Algorithm | None
    """None if its plugin could not be loaded at all."""
    reason: str
    at_share_of: str | None = None
    """The row that it would be at another share of the budget."""

    @property
    def name(self) -> str:
        """What the board calls it."""
        return self.entry.row

    @property
    def reference(self) -> bool:
        """Whether it would be shown and not ranked."""
        return self.entry.reference or (self.algorithm is not None and self.algorithm.reference)


@dataclass(frozen=True)
class Pipeline:
    """The rows of a bench and what makes their stages."""

    spec: Spec
    rows: tuple[Row, ...]
    start: Algorithm | None
    """The algorithm whose stage recipe makes `start`."""
    reward_maker: Algorithm | None
    """The algorithm whose stage recipe makes a reward of pairs, if any row or gold needs one."""
    left_out: tuple[LeftOut, ...] = ()
    """Rows that were asked for and cannot run."""

    @classmethod
    def of(cls, spec: Spec) -> "Pipeline":
        """Look up the algorithms; `SpecError` for unknown ones, wrong settings, or signals that the spec lacks."""
        installed = plugins().algorithms.values()
        entries = spec.algorithms or [Entry(name=a.name, row=a.name) for a in installed if a.competes and a.by_default]
        if not entries:
            raise SpecError(
                "no algorithm is installed; pip install a plugin such as zoo-ppo. `zoo plugins` shows them."
            )
        faults, rows, left_out = Faults(), list[Row](), list[LeftOut]()
        entries = [*entries, *_references(spec, entries), *_controls(spec, entries)]
        with faults.noted():
            entries += budgets.of(_ranked(entries), spec.budgets, entries)
        with faults.noted():
            entries += trials.of(_ranked(entries), spec.trials, entries)
        for entry in entries:
            owner = budgets.belongs_to(entry, entries)
            with faults.noted():
                try:
                    rows.append(replace(_row(spec, entry), at_share_of=owner))
                except PluginError as error:
                    left_out.append(LeftOut(entry, _algorithm(entry.name), str(error), owner))
        check_some_are_left(rows, left_out)
        start = reward_maker = None
        with faults.noted():
            start = _start(rows)
        with faults.noted():
            rewards = {row.reward for row in rows} | {spec.reward, spec.gold}
            reward_maker = _reward_maker() if FROM_PAIRS in rewards else None
        pipeline = cls(spec, tuple(rows), start, reward_maker, tuple(left_out))
        for signal in get_args(Signal):
            with faults.noted():
                pipeline._check_signal(signal)
        with faults.noted():
            pipeline._check_stages()
        faults.tell()
        return pipeline

    def without(self, names: Collection[str]) -> "Pipeline":
        """Return the same without some rows."""
        return replace(self, rows=tuple(row for row in self.rows if row.name not in names))

    @property
    def rewards(self) -> list[str]:
        """Every reward that a row learns from, and the one that all rows are scored by."""
        found = [self.spec.reward, *(row.reward for row in self.rows)]
        return list(dict.fromkeys(reward for reward in found if reward))

    @property
    def stages(self) -> list[Algorithm]:
        """The algorithms whose recipes make stages."""
        return [algorithm for algorithm in (self.start, self.reward_maker) if algorithm is not None]

    @property
    def kinds(self) -> list[Kind]:
        """The data sets that are read."""
        kinds: list[Kind] = ["demonstrations", "preferences", "prompts"]
        wanted = {signal for a in [*self.stages, *(row.algorithm for row in self.rows)] for signal in a.learns_from}
        if isinstance(self.spec.preferences, LabelPairs):
            wanted = (wanted - {"preferences"}) | {"prompts"}
        scored: list[Kind] = ["dev_prompts", "test_prompts"]
        return [kind for kind in kinds if kind in wanted] + scored

    def recipe(self, stage: Algorithm) -> dict[str, JsonValue]:
        """Return the settings of a stage."""
        own = cast(Mapping[str, JsonValue], stage.stage or {})  # of a record: plain values
        return {**own, **self.spec.stages.get(stage.name, {})}

    def closure(self, row: Row) -> list[str]:
        """Name the distinct stages that a row stands on and pays for, once each."""
        learns, made = row.algorithm.learns_from, isinstance(self.spec.preferences, LabelPairs)
        from_pairs = "preferences" in learns or row.reward == FROM_PAIRS
        wanted = {
            "start": row.algorithm.starts_from != "base" or "reward" in learns or (from_pairs and made),
            "pairs": from_pairs and made,
            "reward": row.reward == FROM_PAIRS,
            f"calibration {row.reward}": row.reward is not None,
        }
        return [stage for stage, stands in wanted.items() if stands and not (stage == "start" and self.start is None)]

    def _check_signal(self, signal: Signal) -> None:
        """Raise `SpecError` for a signal that the spec lacks, with all that learn from it."""
        if signal == "reward":
            learners = [
                row.algorithm.name for row in self.rows if signal in row.algorithm.learns_from and not row.reward
            ]
        elif getattr(self.spec, signal) is None and not (signal == "demonstrations" and self.spec.imitates_chosen):
            every = [*self.stages, *(row.algorithm for row in self.rows)]
            learners = [algorithm.name for algorithm in every if signal in algorithm.learns_from]
        else:
            return
        if learners:
            names = ", ".join(dict.fromkeys(learners))
            one = names == learners[0]
            give = f"{names} {'learns' if one else 'learn'} from {signal}; give it in the spec under `{signal}:`"
            if signal == "demonstrations":
                give += ", or give a file of pairs under `preferences:`, whose chosen answers are imitated"
            raise SpecError(f"{give}.")

    def _check_stages(self) -> None:
        names = [stage.name for stage in self.stages]
        for name in self.spec.stages:
            if name not in names:
                raise SpecError(f"stages: no stage of this bench is made by {name!r}. {did_you_mean(name, names)}")
        for stage in self.stages:
            configure(stage, self.recipe(stage))


def check_some_are_left(rows: Sequence[Row], left_out: Sequence[LeftOut]) -> None:
    """Raise `PluginError` with every reason if none of the rows that were asked for can run."""
    if left_out and all(row.reference for row in rows):
        raise PluginError("\n".join(dict.fromkeys(one.reason for one in left_out)))


def _row(spec: Spec, entry: Entry) -> Row:
    algorithm = plugins().algorithm(entry.name)
    if not algorithm.competes and not algorithm.reference:
        raise SpecError(f"algorithms: {entry.name!r} prepares a stage of others and is no row by itself.")
    _check_start(algorithm)
    try:
        configure(algorithm, entry.settings)
    except SpecError as error:
        if entry.settings:
            raise
        raise PluginError(plugins().blame(algorithm, f"its own defaults are refused: {error}")) from error
    if entry.control and controls.NEEDS[entry.control] not in algorithm.learns_from:
        needed = controls.NEEDS[entry.control]
        raise SpecError(f"algorithms: {entry.row!r} is a control of {needed}, and {entry.name} learns from none.")
    if entry.control and entry.reward:
        raise SpecError(f"algorithms: {entry.row!r} is given a reward and a control; leave one of them out.")
    if entry.reward and "reward" not in algorithm.learns_from:
        raise SpecError(f"algorithms: {entry.row!r} is given a reward, and {entry.name} learns from none.")
    if entry.trials:
        _check_trials(spec, entry, algorithm)
    own = entry.reward or (controls.REWARDS.get(entry.control) if entry.control else None)
    return Row(entry, algorithm, own or spec.reward if "reward" in algorithm.learns_from else None)


def _check_trials(spec: Spec, entry: Entry, algorithm: Algorithm) -> None:
    """Raise `SpecError` where trials cannot choose a row's settings."""
    trials.space(algorithm)
    if entry.control:
        raise SpecError(f"algorithms: {entry.row!r} is a control, which nothing tunes; leave its `trials` out.")
    if spec.gold is None and spec.reward is None:
        raise SpecError("trials: there is neither gold nor reward, so nothing says which trial is the best; give one.")


def _algorithm(name: str) -> Algorithm | None:
    return plugins().algorithms.get(name)


def _check_start(algorithm: Algorithm) -> None:
    """Raise `PluginError` if no stage can be made that the algorithm starts from."""
    name, known = algorithm.starts_from, plugins().algorithms
    if name == "base":
        return
    makers = _stage_makers()
    if name not in makers:
        why = (
            f"starts_from={name!r} has no stage recipe from the base model"
            if name in known
            else (f"no installed plugin provides starts_from={name!r}")
        )
        raise PluginError(plugins().blame(algorithm, f"{why}. {did_you_mean(name, [*makers, 'base']).rstrip('.')}"))


def _stage_makers() -> list[str]:
    """The algorithms that others can start from."""
    found = plugins().algorithms.values()
    return [one.name for one in found if one.stage is not None and one.starts_from == "base"]


def _references(spec: Spec, entries: Sequence[Entry]) -> list[Entry]:
    """The reference rows of installed plugins that this spec wants and has the data for."""
    named = {entry.name for entry in entries}
    return [
        Entry(name=algorithm.name, row=algorithm.name)
        for algorithm in plugins().algorithms.values()
        if spec.references and algorithm.reference and algorithm.name not in named
        if all(getattr(spec, signal) is not None for signal in algorithm.learns_from)
    ]


def _controls(spec: Spec, entries: Sequence[Entry]) -> list[Entry]:
    """The rows that should gain nothing, where they are asked for and none of that name stands in the spec."""
    known = [algorithm for entry in entries if (algorithm := _algorithm(entry.name))]
    named = {entry.row for entry in entries}
    found = controls.of(known) if spec.controls else ()
    return [Entry(name=algorithm.name, row=row, control=one) for row, algorithm, one in found if row not in named]


def _ranked(entries: Sequence[Entry]) -> list[Entry]:
    """Return the rows that are no point of reference: others have no second row, of another budget or tuned."""
    known = [(entry, algorithm) for entry in entries if (algorithm := _algorithm(entry.name))]
    return [entry for entry, one in known if not (entry.reference or entry.control or one.reference)]


def _start(rows: Sequence[Row]) -> Algorithm | None:
    """The one algorithm that rows start from; failing that, the one that installed algorithms start from."""
    wanted = {row.algorithm.starts_from for row in rows} - {"base"}
    wanted = wanted or {a.starts_from for a in plugins().algorithms.values()} & {*_stage_makers()}
    if len(wanted) > 1:
        names = ", ".join(sorted(wanted))
        raise SpecError(f"algorithms: these rows start from different stages ({names}); bench them apart.")
    return plugins().algorithm(wanted.pop()) if wanted else None


def _reward_maker() -> Algorithm:
    makers = [a for a in plugins().algorithms.values() if a.makes == "reward" and a.stage is not None]
    if not makers:
        raise SpecError("reward: no installed plugin trains a reward model; pip install one, or give a scorer.")
    if len(makers) > 1:
        names = ", ".join(maker.name for maker in makers)
        raise SpecError(f"reward: several plugins train a reward model ({names}); uninstall all but one.")
    return makers[0]


def algorithm_plugins() -> list[str]:
    """Entry points that provide algorithms: the scorer does not load them."""
    return sorted({plugins().owner("zoo_algorithms", name).name for name in plugins().algorithms})
