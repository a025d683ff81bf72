"""LIMA: fine-tune on a few demonstrations of good quality and many kinds."""
