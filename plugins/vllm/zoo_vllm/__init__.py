"""Responses sampled by vLLM, in the process of the training, from the weights of the policy."""
