"""DPO: fit preferences with the policy itself as the reward model."""
