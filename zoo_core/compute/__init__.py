"""Where and how tensors are computed: ranks, shards, packed batches, sampling."""
