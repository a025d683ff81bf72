"""Settings of every test process, made before anything heavy is imported."""

import os

# One thread: the other cores belong to other processes, and OpenMP threads waiting for a busy core spin. No
# network: a test that needs a hub would pass on some machines only.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
