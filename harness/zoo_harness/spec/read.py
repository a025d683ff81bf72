"""From YAML, flags and a preset to a checked spec."""

import re
import reprlib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from zoo_core.errors import SpecError, did_you_mean
from zoo_core.registry.plugins import plugins
from zoo_core.storage.yaml_files import read_yaml
from zoo_harness.spec.presets import PRESETS
from zoo_harness.spec.schema import Evaluation, Limits, Spec

Raw = dict[str, Any]
"""What a user wrote under some keys, not checked yet."""
REFERENCES = ("base", "demonstrations", "preferences", "prompts", "reward", "judge", "gold")

ALL = "all"
"""Among the names of `algorithms`: every one that is installed."""
LOCAL = (".jsonl", ".json", ".csv", ".gz", ".parquet", ".yaml", ".yml")
"""Endings of references that are files, there or not."""


def read(file: Path | None, preset: str | None, flags: Raw, settings: Raw | None = None) -> Spec:
    """Put a spec together: the preset's values, over them the file's, over them the flags that were given.

    `settings` are dotted keys: `limits.prompts`, or `row.setting` for the setting of a row.
    """
    values: Raw = _read_yaml(file) if file else {}
    in_file = values.pop("preset", None)
    preset = preset or in_file or (None if file else "quick")
    if preset is not None and preset not in list(PRESETS):
        raise SpecError(f"there is no preset {preset!r}. {did_you_mean(str(preset), PRESETS)}")
    merged: Raw = {"preset": preset, "name": preset or "bench", "folder": str(Path.cwd())}
    layers: tuple[Raw, ...] = (PRESETS.get(preset or "", {}), values, flags)
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(merged.get(key), Mapping) and isinstance(value, Mapping)
            merged[key] = {**merged[key], **value} if both else value
    if "algorithms" in merged:
        merged["algorithms"] = _rows(merged["algorithms"], values.get("algorithms"))
    for key, value in (settings or {}).items():
        _set(merged, key, value)
    try:
        spec = Spec(**merged)
    except ValidationError as error:
        raise SpecError(_explain(error, file)) from None
    if spec.tracker is not None:
        _check_tracker(spec.tracker)
    return _with_world_defaults(spec)


def _rows(named: object, in_file: object) -> object:
    """Return the rows that were named, those of the file with the settings that they have there.

    "all" stands for every row of the file, and every other algorithm that is installed and can be a row.
    """
    if named == ALL:
        named = [ALL]
    if not isinstance(named, list):
        return named  # the schema says what is wrong with it
    there = {_called(one): one for one in in_file if one != ALL} if isinstance(in_file, list) else {}
    if ALL in named:
        known = (one.name for one in plugins().algorithms.values() if one.competes and not one.reference)
        every = there | {name: name for name in known if name not in there}
        named = [*every.values(), *(one for one in named if one != ALL and _called(one) not in every)]
    return [there.get(one, one) if isinstance(one, str) else one for one in named]


def _called(entry: object) -> str:
    """What a row of a spec is called."""
    return str(entry.get("row", entry.get("name")) if isinstance(entry, Mapping) else entry)


def _check_tracker(name: str) -> None:
    """Raise `SpecError` if a tracker cannot be written to, before anything is trained without it."""
    known = plugins().trackers
    if name not in known:
        raise SpecError(
            f"tracker: no installed plugin provides {name!r}. {did_you_mean(name, known)} TensorBoard, W&B and Trackio "
            "come with: pip install 'zoo-trackers[tensorboard]', or [wandb], or [trackio]."
        )
    if find_spec(known[name].module) is None:
        raise SpecError(
            f"tracker: {name} needs the package {known[name].module}, which is not installed: "
            f"pip install '{known[name].install}'"
        )


def _set(merged: Raw, key: str, value: object) -> None:
    head, _, tail = key.partition(".")
    if not tail:
        merged[head] = value
    elif head in ("limits", "evaluation", "preferences"):
        before = merged.get(head) or {}
        merged[head] = {**before, tail: value} if isinstance(before, Mapping) else before
    elif head == "stages":
        name, _, setting = tail.partition(".")
        stages = merged.get("stages") or {}
        if not setting or not isinstance(stages, Mapping) or not isinstance(stages.get(name) or {}, Mapping):
            raise SpecError(f"{key}={value!r} is no setting of a stage; write stages.STAGE.SETTING=VALUE.")
        merged["stages"] = {**stages, name: {**(stages.get(name) or {}), setting: value}}
    else:
        named = merged.get("algorithms") or []
        entries = [entry for entry in named if isinstance(entry, (str, Mapping))] if isinstance(named, list) else []
        for place, entry in enumerate(entries):
            form = {"name": entry} if isinstance(entry, str) else dict(entry)
            if _called(entry) == head:
                entries[place] = {**form, tail: value}
                merged["algorithms"] = entries
                return
        rows = ", ".join(map(_called, entries))
        raise SpecError(
            f"--set {key}: there is no row {head!r} under --algorithms (there are: {rows or 'none named'})."
        )


def _read_yaml(file: Path) -> Raw:
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


def _relate(file: Path, mapping: object, key: str) -> None:
    if isinstance(mapping, dict) and isinstance(mapping.get(key), str):
        mapping[key] = _relative_to(file, mapping[key])


def _relative_to(file: Path, ref: str) -> str:
    prefix, colon, rest = ref.partition(":")
    if colon and rest and (file.resolve().parent / rest).exists():  # a plugin's reference to a folder, as rrhf:out/cell
        return f"{prefix}:{file.resolve().parent / rest}"
    path = file.resolve().parent / Path(ref).expanduser()
    bare, hashed, _ = str(path).rpartition("#")  # a saved data set and its split
    if hashed and Path(bare).is_dir():
        return str(path)
    looks_local = ref.startswith(".") or Path(ref).suffix in LOCAL
    return str(path) if path.exists() or looks_local else ref


def _with_world_defaults(spec: Spec) -> Spec:
    """Fill what was left out from the world that `base` names: `x:base` comes with `x:demonstrations` and so on."""
    world, colon, thing = spec.base.rpartition(":")
    given: Raw = {}
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
    """Tasks that belong to a world; what follows a question mark in its name turns its dials and changes no task."""
    return [name for name, task in plugins().tasks.items() if task.world == world.partition("?")[0]]


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
