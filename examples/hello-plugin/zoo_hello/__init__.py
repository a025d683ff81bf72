"""hello: chosen answers are separated from rejected ones by a margin."""
