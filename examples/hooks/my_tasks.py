"""An lm-eval task: which of two words is a colour."""

from zoo_core.hookspecs import hookimpl
from zoo_core.records import Task

PAIRS = (("red", "run"), ("blue", "table"), ("green", "seven"), ("white", "hello"))


@hookimpl
def zoo_tasks() -> list[Task]:
    """Return the task `colours`."""
    return [
        Task(
            name="colours",
            summary="Which of two words is a colour; accuracy",
            config=f"{__name__}:colours",
            metric="acc",
            chance=0.5,
        )
    ]


def colours() -> dict[str, object]:
    """Return the task as lm-eval has it in YAML; its rows are made here."""
    from datasets import Dataset  # imported here: listing plugins must take no time

    rows = Dataset.from_list([{"choices": list(pair), "label": 0} for pair in PAIRS])
    return {
        "task": "colours",
        "custom_dataset": lambda **_: {"test": rows},
        "output_type": "multiple_choice",
        "test_split": "test",
        "doc_to_text": "A colour:",
        "doc_to_choice": "choices",
        "doc_to_target": "label",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
