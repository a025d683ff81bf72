"""Supervised fine-tuning: imitate demonstrations token by token."""
