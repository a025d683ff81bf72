"""What a ledger reports. It stands apart from the ledger: commands that read records need no torch."""

from typing import TypedDict


class LedgerReport(TypedDict):
    """All costs of a run, as a record keeps them."""

    flops: int
    flops_by_role_phase: dict[str, int]
    """By "role/phase"; they sum to `flops`."""
    audit_ratio: float | None
    """FLOPs charged by FLOPs counted, over the audited updates; None if none was audited."""
    rows: dict[str, list[str]]
    """The data rows that were used, by data set."""
    declared: int
    judge_calls: int
    generated_tokens: int
    reward_queries: int
    optimizer_steps: int
    updates: int
    wall_seconds: float
    peak_memory_bytes: int
    parameter_bytes: int
    training_bytes: int
    models_resident: float
    """Bytes of all models in memory by bytes of the policy."""
    flags: list[str]
