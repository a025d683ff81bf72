"""PPO: sample, score, and raise the score without moving far from the reference."""
