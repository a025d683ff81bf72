"""The spec of a bench: its keys, their types and their defaults."""

import math
import re
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator
from zoo_leaderboard.schema import BEST_OF, Control

from zoo_harness.spec.numbers import share_of, trials_of
from zoo_harness.spec.settings import refuse_truth_for_a_number

MOST_FOR_STAGES = 0.8
"""A row whose stages take more than this share of the budget does not fit in it."""

FROM_PAIRS = "preferences"
"""The reward, or gold, that is trained on the pairs."""

ROW = re.compile(r"[a-z0-9][a-z0-9_.+-]{0,63}")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, values: object) -> object:
        for name, value in values.items() if isinstance(values, Mapping) else ():
            if name in cls.model_fields:
                refuse_truth_for_a_number(value, cls.model_fields[name].annotation, f"{name}: ")
        return values


ENTRY_KEYS = ("name", "row", "reward", "reference", "control", "budget_share", "trials")

GOLD_PAIRS, UNSEEN_PAIRS = "gold pairs", "unseen pairs"
"""What the probe calls the pairs that gold is trained on, and those that gold and proxy are measured on."""
FOR_ALGORITHMS, FOR_GOLD = "algorithms", "gold"
"""The halves of the pairs where gold is trained on pairs."""


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
    control: Control | None = None
    """What it learns from in place of the bench's reward or labels, so that it should gain nothing: "length", "random",
    or "shuffled" labels. Such a row is a point of reference."""
    budget_share: float = 1.0
    """What of the bench's budget it is trained with, a number or a fraction such as "1/4". Only rows at 1 rank."""
    trials: int = 0
    """So many trials choose its settings; they are charged to its budget. 0: it has the settings that it is given."""
    settings: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: object) -> object:
        if isinstance(value, str):
            return {"name": value, "row": value}
        if isinstance(value, Mapping) and "settings" not in value:
            own = {key: value[key] for key in ENTRY_KEYS if key in value}
            settings = {key: one for key, one in value.items() if key not in ENTRY_KEYS}
            return {"row": own.get("name"), **own, "settings": settings}
        return value

    @field_validator("budget_share", mode="before")
    @classmethod
    def _is_a_share(cls, share: object) -> float:
        return share_of(share)

    @field_validator("trials")
    @classmethod
    def _are_several(cls, count: int) -> int:
        return trials_of(count)

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


class LoRA(_Strict):
    """An adapter on the policy of every row and of the SFT stage, which is trained alone (Hu et al. 2021)."""

    rank: int = Field(default=16, ge=1)
    alpha: int | None = Field(default=None, ge=1)
    """The adapter counts alpha / rank times; left out, twice."""
    targets: list[str] | None = Field(default=None, min_length=1)
    """Names of layers, such as q_proj; left out, all linear layers of the body."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Of the adapter's input, in passes that are trained on only."""


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
        if wrong := [one for one in temperatures if not 0 <= one < math.inf]:
            raise ValueError(f"a temperature is 0 or more and finite, got {wrong[0]}")
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
    """The board's hidden reward, never given to an algorithm: a reward, or "preferences" for a reward model that is
    trained on a half of the pairs which no algorithm sees."""
    algorithms: list[Entry] = Field(default_factory=list)
    """Rows; empty means every installed algorithm that is a row by default."""
    references: bool = True
    """Whether the reference rows of the installed plugins are rows as well."""
    controls: bool = False
    """Whether rows that should gain nothing are trained as well: on length, on noise, on shuffled labels."""
    budgets: list[float] = []
    """Shares of the budget, numbers or fractions such as "1/4", at which every algorithm is trained as well, each time
    as a whole run; at 1 it is always trained."""
    trials: int = 0
    """Every algorithm that declares a search space has one more row, whose settings are chosen by so many trials that
    are charged to its budget. 0 for none."""
    stages: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
    """By algorithm: settings that change the recipe of the stage it makes for others."""
    budget: float | str = 3e12
    """FLOPs, or a time such as "90s" that is converted once by a measured rate."""
    seeds: int = Field(default=3, ge=1, le=1000)
    first_seed: int = Field(default=0, ge=0)
    """The number of the first seed; the others follow it."""
    limits: Limits = Limits()
    tasks: list[str] | None = None
    """lm-eval names, YAML files, or tasks of plugins; left out, those of the world that `base` names."""
    prompt_tokens: int = Field(default=64, ge=1)
    """Longest prompt."""
    response_tokens: int = Field(default=48, ge=1)
    """Longest response, EOS included."""
    long_prompts: Literal["error", "drop"] = "error"
    """What happens to rows whose prompt is longer than `prompt_tokens`; dropped rows are counted in the plan."""
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    """In which models train: float32; on NVIDIA GPUs tf32, with rougher products; or bfloat16 by autocast, with weights
    in float32. Scores are measured in float32 in all."""
    weights: Literal["fp32", "bf16"] = "fp32"
    """In which weights are kept that are not trained; bf16, which needs `precision: bf16`, changes no number there."""
    optimizer: Literal["adamw", "adamw-8bit"] = "adamw"
    """Of every row and stage; with adamw-8bit its moments take two bytes a weight in place of eight."""
    micro_batch: int | None = Field(default=None, ge=1)
    """Most tokens of one pass of a model; larger batches are computed in parts, and again in the backward pass."""
    lora: LoRA | None = None
    """Train an adapter in place of the policy's weights; it is merged into them when the policy is saved."""
    gradient_checkpointing: bool = False
    """Whether a pass keeps the inputs of its layers only, which are computed again in the backward pass."""
    rollout_engine: str = "cached"
    checkpoint_seconds: float = Field(default=20.0, ge=0)
    """Least time between checkpoints; all take 2 % of the time at most. 0: after every update. Changes no result."""
    update_seconds: float = Field(default=600.0, gt=0)
    """Longest time that one update may take while it is measured; then its plugin is left out. Changes no result."""
    tracker: str | None = None
    """Where every training writes how it goes: the name of a plugin's tracker. Changes no result."""
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
    def _amount(cls, budget: object) -> float | str:
        if isinstance(budget, str) and re.fullmatch(r"\d+(\.\d+)?[smh]", budget):
            return budget
        try:
            flops = float(budget) if isinstance(budget, (str, int, float)) else math.nan
        except (ValueError, OverflowError):
            flops = math.nan
        if math.isnan(flops):
            raise ValueError(f"{budget!r} is neither FLOPs (2e13) nor a time (90s, 5m, 1h)")
        if not 0 < flops < float("inf"):
            raise ValueError(f"a budget must be above 0, got {budget!r}")
        return flops

    @field_validator("budgets", mode="before")
    @classmethod
    def _shares(cls, shares: object) -> list[float]:
        if not isinstance(shares, list):
            raise ValueError("write a list of shares of the budget, such as [1/4, 1, 4]")
        found = [share_of(share) for share in shares]
        names = [f"{share:g}" for share in found]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"the share {twice[0]} of the budget stands there twice; leave one of them out")
        return sorted(found)

    @field_validator("trials")
    @classmethod
    def _are_several(cls, count: int) -> int:
        return trials_of(count)

    @model_validator(mode="after")
    def _halves_are_of_given_pairs(self) -> "Spec":
        if self.gold == "preferences" and isinstance(self.preferences, LabelPairs):
            raise ValueError("gold: preferences needs pairs that are given; the annotator itself can be the gold here")
        return self

    @model_validator(mode="after")
    def _frozen_weights_are_cast_anyway(self) -> "Spec":
        if self.weights == "bf16" and self.precision != "bf16":
            raise ValueError(f"weights: bf16 needs precision: bf16, and it is {self.precision}")
        return self

    @model_validator(mode="after")
    def _rows_differ(self) -> "Spec":
        rows = [entry.row for entry in self.algorithms]
        for row in rows:
            if rows.count(row) > 1:
                raise ValueError(f"two rows are called {row!r}; give one of them `row: another-name`")
        return self

    @property
    def seed_numbers(self) -> range:
        """The seeds."""
        return range(self.first_seed, self.first_seed + self.seeds)

    @property
    def imitates_chosen(self) -> bool:
        """Whether the chosen answers of the pairs stand in for demonstrations, because there are none."""
        return self.demonstrations is None and isinstance(self.preferences, str)

    @property
    def budget_seconds(self) -> float | None:
        """The budget as a time, if it was given as one."""
        if not isinstance(self.budget, str):
            return None
        return float(self.budget[:-1]) * {"s": 1, "m": 60, "h": 3600}[self.budget[-1]]
