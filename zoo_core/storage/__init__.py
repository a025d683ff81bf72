"""Atomic files, and YAML that people write."""
