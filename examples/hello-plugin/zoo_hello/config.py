"""Settings: a frozen dataclass with a docstring under each field."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class HelloConfig:
    """Settings of the example."""

    batch_size: int = 16
    """Preference pairs per update."""
    learning_rate: float = 5e-5
    """Peak step size of AdamW."""
    margin: float = 1.0
    """δ: nats by which a chosen answer is to be likelier than the rejected one."""
