"""Settings of every test process, made before anything heavy is imported."""

import os

# One thread: the machine's other cores belong to the other processes, and OpenMP threads that wait for a busy core
# spin (8 to 13 seconds became 34). No network: a test that needs a hub would pass on some machines only.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
