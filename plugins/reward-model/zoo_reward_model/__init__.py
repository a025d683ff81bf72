"""Reward model: learn a scorer from which of two responses people preferred."""
