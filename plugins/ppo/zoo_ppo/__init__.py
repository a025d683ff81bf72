"""PPO: sample, score, and climb the score without straying far from the reference."""
