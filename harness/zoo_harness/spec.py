"""The spec of a bench: the same words as flags and in YAML, checked before anything runs."""

import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from zoo_leaderboard.schema import BEST_OF

from zoo_core.errors import SpecError, did_you_mean
from zoo_core.storage.yaml_files import read_yaml
from zoo_harness.settings import refuse_truth_for_a_number

REFERENCES = ("base", "demonstrations", "preferences", "prompts", "reward", "judge", "gold")
ROW = re.compile(r"[a-z0-9][a-z0-9_.+-]{0,63}")

PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "budget": 6e11,
        "seeds": 1,
        "limits": {"preference_labels": 96, "demonstrations": 256, "prompts": 1000},
        "evaluation": {
            "temperatures": [0.0, 1.0],
            "dev_prompts": 32,
            "test_prompts": 64,
            "task_items": 50,
            "best_of": [4],
        },
    },
    "quick": {
        "budget": 1.6e12,
        "seeds": 3,
        "limits": {"preference_labels": 400, "demonstrations": 800, "prompts": 4000},
        "evaluation": {
            "temperatures": [0.0, 0.5, 1.0],
            "dev_prompts": 64,
            "test_prompts": 192,
            "task_items": 150,
            "best_of": [4],
        },
    },
    "board": {
        "budget": 6e12,
        "seeds": 5,
        "evaluation": {"temperatures": [0.0, 0.3, 0.5, 0.7, 1.0], "dev_prompts": 128, "test_prompts": 512},
    },
    "full": {
        "budget": 1.2e13,
        "seeds": 10,
        "evaluation": {"temperatures": [0.0, 0.3, 0.5, 0.7, 1.0], "dev_prompts": 128, "test_prompts": 512},
    },
}
"""What a preset fixes; budgets are FLOPs, derived so that PPO's defaults make 100 updates or more in `quick`."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, values: Any) -> Any:
        for name, value in values.items() if isinstance(values, Mapping) else ():
            if name in cls.model_fields:
                refuse_truth_for_a_number(value, cls.model_fields[name].annotation, f"{name}: ")
        return values


ENTRY_KEYS = ("name", "row", "reward", "reference")


JUDGE_PAIRS, UNSEEN_PAIRS = "judge pairs", "unseen pairs"
"""What the probe calls the pairs that a judge is trained on, and those that judges are measured on."""
FOR_ALGORITHMS, FOR_THE_JUDGE = "algorithms", "judge"
"""The halves of the pairs where the judge is trained on pairs."""


class Entry(_Strict):
    """One row of the board: an algorithm with settings of its own."""

    name: str
    """The algorithm."""
    row: str
    """What the board calls it; the algorithm's name unless it stands on the board twice."""
    reward: str | None = None
    """A reward for this row alone, in place of the spec's."""
    reference: bool = False
    """Whether the row is a point of reference: shown, and not ranked."""
    settings: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value, "row": value}
        if isinstance(value, Mapping) and "settings" not in value:
            own = {key: value[key] for key in ENTRY_KEYS if key in value}
            settings = {key: one for key, one in value.items() if key not in ENTRY_KEYS}
            return {"row": own.get("name"), **own, "settings": settings}
        return value

    @field_validator("row")
    @classmethod
    def _is_a_name(cls, row: str) -> str:
        if row in ("base", "start") or row.startswith(BEST_OF):
            raise ValueError(f"a row cannot be called {row!r}: that is a reference row; give it `row: another-name`")
        if not ROW.fullmatch(row):
            raise ValueError(f"the row name {row!r} must be lower case letters, digits and . _ + -")
        return row


class LabelPairs(_Strict):
    """Preferences that the bench makes: two samples of `start` to a prompt, labelled by a simulated annotator."""

    annotator: str
    """A reward reference; the answer that it scores higher is chosen."""
    pairs: int = Field(default=1000, ge=1)
    """Labels, each counted as one that a person gave."""
    flips: float = Field(default=0.0, ge=0.0, lt=0.5)
    """Share of labels that are the wrong way round."""
    temperature: float = Field(default=1.0, gt=0.0)


class Limits(_Strict):
    """The most rows of each data set any algorithm may see: the same nested subset for all."""

    preference_labels: int | None = Field(default=1000, ge=1)
    demonstrations: int | None = Field(default=2000, ge=1)
    prompts: int | None = Field(default=4000, ge=1)


class Evaluation(_Strict):
    """How final weights are scored."""

    temperatures: list[float] = Field(default=[0.0, 0.5, 1.0], min_length=1)
    """Each row is decoded at its own best of these, chosen on dev prompts."""
    dev_prompts: int = Field(default=128, ge=8)
    test_prompts: int = Field(default=512, ge=8)
    task_items: int | None = Field(default=None, ge=1)
    """Items of each lm-eval task, the same drawn ones for every row; None asks all."""
    best_of: list[int] = [16]
    """Reference rows that answer with the best of so many samples of `start`, by the reward."""
    curve_prompts: int = Field(default=32, ge=8)
    """Prompts for the points at 25, 50 and 75 % of the budget."""

    @field_validator("best_of")
    @classmethod
    def _several_each(cls, sizes: list[int]) -> list[int]:
        if any(size < 2 for size in sizes):
            raise ValueError(f"the best of fewer than 2 samples is a sample, got {sizes}")
        return sorted(set(sizes))

    @field_validator("temperatures")
    @classmethod
    def _not_negative(cls, temperatures: list[float]) -> list[float]:
        if min(temperatures) < 0:
            raise ValueError(f"a temperature cannot be negative, got {min(temperatures)}")
        return sorted(set(temperatures))


class Spec(_Strict):
    """A bench, complete."""

    name: str
    preset: str | None = None
    base: str = "tinytown:base"
    demonstrations: str | None = None
    preferences: str | LabelPairs | None = None
    """Pairs: a reference, or `{annotator: ..., pairs: ..., flips: ...}` for labelled samples of `start`."""
    prompts: str | None = None
    reward: str | None = "preferences"
    """"preferences" (a reward model trained on the pairs), or a scorer's directory, or module:function."""
    judge: str | None = None
    """A language model that is asked about texts in place of people; left out, the world's, or the base model."""
    gold: str | None = None
    """The board's hidden judge, never given to an algorithm: a reward, or "preferences" for a reward model that is
    trained on a half of the pairs which no algorithm sees."""
    algorithms: list[Entry] = Field(default_factory=list)
    """Rows; empty means every installed algorithm that is a row by default."""
    stages: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """By algorithm: settings that change the recipe of the stage it makes for others."""
    budget: float | str = 3e12
    """FLOPs, or a time such as "90s" that is converted once by a measured rate."""
    seeds: int = Field(default=3, ge=1, le=1000)
    limits: Limits = Limits()
    tasks: list[str] | None = None
    """lm-eval names, YAML files, or tasks of plugins; left out, those of the world that `base` names."""
    prompt_tokens: int = Field(default=64, ge=1)
    """Longest prompt."""
    response_tokens: int = Field(default=48, ge=1)
    """Longest response, EOS included."""
    long_prompts: Literal["error", "drop"] = "error"
    """What happens to rows whose prompt is longer than `prompt_tokens`; dropped rows are counted in the plan."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """In which models compute while they train: float32, or bfloat16 with weights in float32 (autocast). Scores are
    measured in float32 in both."""
    rollout_engine: str = "cached"
    checkpoint_seconds: float = Field(default=20.0, ge=0)
    """Time between checkpoints of a cell; 0 takes one after every update. Changes no result."""
    evaluation: Evaluation = Evaluation()
    folder: str | None = None
    """Where the spec file stands: relative paths and `module:function` rewards are looked up there."""

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if not ROW.fullmatch(name):
            raise ValueError(f"the name {name!r} must be lower case letters, digits and . _ + -")
        return name

    @field_validator("budget", mode="before")
    @classmethod
    def _amount(cls, budget: Any) -> float | str:
        if isinstance(budget, str) and re.fullmatch(r"\d+(\.\d+)?[smh]", budget):
            return budget
        try:
            flops = float(budget)
        except (TypeError, ValueError):
            raise ValueError(f"{budget!r} is neither FLOPs (2e13) nor a time (90s, 5m, 1h)") from None
        if not 0 < flops < float("inf"):
            raise ValueError(f"a budget must be above 0, got {budget!r}")
        return flops

    @model_validator(mode="after")
    def _halves_are_of_given_pairs(self) -> "Spec":
        if self.gold == "preferences" and isinstance(self.preferences, LabelPairs):
            raise ValueError("gold: preferences needs pairs that are given; the annotator itself can be the gold here")
        return self

    @model_validator(mode="after")
    def _rows_differ(self) -> "Spec":
        rows = [entry.row for entry in self.algorithms]
        for row in rows:
            if rows.count(row) > 1:
                raise ValueError(f"two rows are called {row!r}; give one of them `row: another-name`")
        return self

    @property
    def budget_seconds(self) -> float | None:
        """The budget as a time, if it was given as one."""
        if not isinstance(self.budget, str):
            return None
        return float(self.budget[:-1]) * {"s": 1, "m": 60, "h": 3600}[self.budget[-1]]


def read(
    file: Path | None, preset: str | None, flags: Mapping[str, Any], settings: Mapping[str, Any] | None = None
) -> Spec:
    """Put a spec together: the preset's values, over them the file's, over them the flags that were given.

    `settings` are dotted keys: `limits.prompts`, or `row.setting` for the setting of a row.
    """
    values: dict[str, Any] = _read_yaml(file) if file else {}
    preset = preset or values.pop("preset", None) or (None if file else "quick")
    if preset is not None and preset not in list(PRESETS):
        raise SpecError(f"there is no preset {preset!r}. {did_you_mean(str(preset), PRESETS)}")
    merged: dict[str, Any] = {"preset": preset, "name": preset or "bench", "folder": str(Path.cwd())}
    for layer in (PRESETS.get(preset or "", {}), values, flags):
        for key, value in layer.items():
            both = isinstance(merged.get(key), Mapping) and isinstance(value, Mapping)
            merged[key] = {**merged[key], **value} if both else value
    for key, value in (settings or {}).items():
        _set(merged, key, value)
    try:
        spec = Spec(**merged)
    except ValidationError as error:
        raise SpecError(_explain(error, file)) from None
    return _with_world_defaults(spec)


def _set(merged: dict[str, Any], key: str, value: Any) -> None:
    head, _, tail = key.partition(".")
    if not tail:
        merged[head] = value
    elif head in ("limits", "evaluation", "preferences"):
        before = merged.get(head) or {}
        merged[head] = {**before, tail: value} if isinstance(before, Mapping) else before
    elif head == "stages":
        name, _, setting = tail.partition(".")
        stages = merged.get("stages") or {}
        merged["stages"] = {**stages, name: {**stages.get(name, {}), setting: value}}
    else:
        named = merged.get("algorithms") or []
        entries = [entry for entry in named if isinstance(entry, (str, Mapping))] if isinstance(named, list) else []
        for place, entry in enumerate(entries):
            form = {"name": entry} if isinstance(entry, str) else dict(entry)
            if form.get("row", form.get("name")) == head:
                entries[place] = {**form, tail: value}
                merged["algorithms"] = entries
                return
        rows = ", ".join(
            entry if isinstance(entry, str) else str(entry.get("row", entry.get("name"))) for entry in entries
        )
        raise SpecError(
            f"--set {key}: there is no row {head!r} under --algorithms (there are: {rows or 'none named'})."
        )


def _read_yaml(file: Path) -> dict[str, Any]:
    values = read_yaml(file)
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise SpecError(f"{file}: a spec must be a list of `key: value` lines, this is a {type(values).__name__}.")
    values.setdefault("name", re.sub(r"[^a-z0-9_.+-]", "-", file.stem.lower()))
    for key in REFERENCES:
        if isinstance(values.get(key), str) and values[key] != "preferences":  # the keyword, not a folder of that name
            values[key] = _relative_to(file, values[key])
    _relate(file, values.get("preferences"), "annotator")
    for entry in values["algorithms"] if isinstance(values.get("algorithms"), list) else []:
        for key in entry if isinstance(entry, dict) else ():
            if key == "reward" or (file.resolve().parent / str(entry[key])).is_file():  # a setting that names a file
                _relate(file, entry, key)
    if isinstance(values.get("tasks"), list):
        values["tasks"] = [
            _relative_to(file, task) if str(task).endswith((".yaml", ".yml")) else task for task in values["tasks"]
        ]
    return {**values, "folder": str(file.resolve().parent)}


def _relate(file: Path, mapping: Any, key: str) -> None:
    if isinstance(mapping, dict) and isinstance(mapping.get(key), str):
        mapping[key] = _relative_to(file, mapping[key])


def _relative_to(file: Path, ref: str) -> str:
    prefix, colon, rest = ref.partition(":")
    if colon and rest and (file.resolve().parent / rest).exists():  # a plugin's reference to a folder, as rrhf:out/cell
        return f"{prefix}:{file.resolve().parent / rest}"
    path = file.resolve().parent / Path(ref).expanduser()
    looks_local = ref.startswith(".") or Path(ref).suffix in (".jsonl", ".json", ".parquet", ".yaml", ".yml")
    return str(path) if path.exists() or looks_local else ref


def _with_world_defaults(spec: Spec) -> Spec:
    """Fill what was left out from the world that `base` names: `x:base` comes with `x:demonstrations` and so on."""
    world, colon, thing = spec.base.rpartition(":")
    given: dict[str, Any] = {}
    if colon and thing == "base":
        for key in ("demonstrations", "preferences", "prompts", "judge", "gold"):
            if getattr(spec, key) is None and key not in spec.model_fields_set:
                given[key] = f"{world}:{key}"
    filled = spec.model_copy(update=given)
    if filled.judge is None:
        filled = filled.model_copy(update={"judge": filled.base})
    if filled.tasks is None:
        filled = filled.model_copy(update={"tasks": _tasks_of(world) if colon else []})
    if filled.prompts is None:
        pairs = filled.preferences if isinstance(filled.preferences, str) else None
        filled = filled.model_copy(update={"prompts": pairs or filled.demonstrations})
    return filled


def _tasks_of(world: str) -> list[str]:
    """Tasks that belong to a world."""
    from zoo_core.registry.plugins import plugins

    return [name for name, task in plugins().tasks.items() if task.world == world]


def _explain(error: ValidationError, file: Path | None) -> str:
    lines = []
    for one in error.errors():
        key = ".".join(str(part) for part in one["loc"]) or "spec"
        if one["type"] == "extra_forbidden":
            known = Limits.model_fields if key.startswith("limits.") else Spec.model_fields
            known = Evaluation.model_fields if key.startswith("evaluation.") else known
            lines.append(f"{key}: there is no such key. {did_you_mean(str(one['loc'][-1]), known)}")
        else:
            what = one["msg"].removeprefix("Value error, ")
            # What is wrong between several keys names them itself.
            lines.append(f"{key}: {what} (got {reprlib.repr(one['input'])})" if one["loc"] else what)
    return f"{file or 'flags'}: " + "; ".join(lines)
