"""Core set: fine-tune on the few demonstrations that leave no other one far away."""
