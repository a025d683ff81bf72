"""Tells the zoo about supervised fine-tuning."""

from zoo_core.hookspecs import hookimpl
from zoo_core.records import Algorithm


@hookimpl
def zoo_algorithms() -> list[Algorithm]:
    """Return supervised fine-tuning, and the reference row that imitates the chosen answers of the pairs, too."""
    return [
        Algorithm(
            name="sft",
            summary="Supervised fine-tuning: imitate the demonstrations",
            paper="2203.02155",
            config="zoo_sft.config:SFTConfig",
            train="zoo_sft.train:train",
            learns_from=("demonstrations",),
            stage={"epochs": 1.0, "learning_rate": 0.00057, "batch_size": 16},
        ),
        Algorithm(
            name="sft-chosen",
            summary="SFT on demonstrations and chosen answers: the same data as preference learning, no contrast",
            paper="2203.02155",
            config="zoo_sft.config:SFTChosenConfig",
            train="zoo_sft.train:train_with_chosen",
            learns_from=("demonstrations", "preferences"),
            competes=False,
            reference=True,
        ),
    ]
