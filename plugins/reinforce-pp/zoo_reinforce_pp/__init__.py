"""REINFORCE++: PPO without a critic, whose advantages are whitened over all tokens of the batch."""
