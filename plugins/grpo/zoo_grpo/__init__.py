"""GRPO: PPO's clipped step with the prompt's own group of responses in place of a critic."""
