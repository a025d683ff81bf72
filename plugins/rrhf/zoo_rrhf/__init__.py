"""RRHF: make responses with higher scores likelier."""
