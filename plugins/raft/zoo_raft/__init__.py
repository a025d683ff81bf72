"""RAFT: sample several responses to each prompt, keep the best, fine-tune on them, start over."""
