"""What a run costs: FLOPs by role and phase, their audit, the ledger and the budget."""
