"""A setting outside of its range is refused by every algorithm that has it, instead of training towards nonsense."""

import dataclasses
from dataclasses import dataclass
from importlib import import_module

import pytest

from zoo_core.records import check_ranges
from zoo_core.registry.plugins import plugins

SIGNED = {"missing_eos_score", "target_margin"}
"""Settings that may be below 0: a score, and a margin of either sign."""


def config_of(algorithm):
    module, _, attribute = plugins().algorithms[algorithm].config.partition(":")
    return getattr(import_module(module), attribute)


def numbers(config):
    kinds = (int, float, int | None, float | None)
    return [field for field in dataclasses.fields(config) if field.type in kinds and field.name not in SIGNED]


@pytest.mark.parametrize("algorithm", plugins().algorithms)
def test_no_algorithm_takes_a_negative_number_or_a_count_of_none(algorithm):
    config = config_of(algorithm)
    for field in numbers(config):
        for value in (-1, 0) if field.type in (int, int | None) else (-1.0, -1e-9):
            with pytest.raises(ValueError, match=rf"{field.name}={value}\b"):
                config(**{field.name: value})


@pytest.mark.parametrize("algorithm", plugins().algorithms)
def test_no_algorithm_samples_clips_or_pulls_with_nothing(algorithm):
    config = config_of(algorithm)
    for field in numbers(config):
        may_be_none = (algorithm, field.name) == ("gkd", "beta")  # 0 is the forward divergence there
        if (
            field.name in ("beta", "tau", "temperature", "max_grad_norm", "clip_range", "kl_horizon")
            and not may_be_none
        ):
            with pytest.raises(ValueError, match=f"{field.name}=0.0 must be above 0"):
                config(**{field.name: 0.0})


@pytest.mark.parametrize(
    ("name", "kind", "good", "bad"),
    [
        *((name, float, (1e-9, 7.0), (0.0, -1.0, float("nan"))) for name in ("beta", "temperature", "clip_range_low")),
        *((name, float, (0.0, 7.0), (-1e-9, float("nan"))) for name in ("learning_rate", "coefficient", "weight")),
        *((name, float, (1e-9, 1.0), (0.0, 1.1, float("nan"))) for name in ("share", "gae_lambda")),
        ("rows", int, (1, 7), (0, -1)),
        ("rank", int | None, (None, 1), (0, -1)),
        ("epochs", float | None, (None, 0.5), (0.0, -1.0)),
    ],
)
def test_ranges_hold_for_names_and_for_names_that_end_with_them(name, kind, good, bad):
    for full in (name, f"reward_{name}"):
        made = dataclass(frozen=True)(
            type("Made", (), {"__annotations__": {full: kind}, "__post_init__": check_ranges})
        )
        for value in good:
            made(value)
        for value in bad:
            with pytest.raises(ValueError, match=f"{full}={value} must be"):
                made(value)


def test_what_has_a_range_of_its_own_and_what_only_ends_alike_are_left_alone():
    @dataclass(frozen=True)
    class Made:
        beta: float = 0.0
        alphabeta: float = -1.0
        seeds: tuple[int, ...] = (-1,)

        def __post_init__(self):
            check_ranges(self, but=("beta",))

    Made()
