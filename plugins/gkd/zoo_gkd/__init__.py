"""KTO: learn from answers that are good or bad, each by itself."""
