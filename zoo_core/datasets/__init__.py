"""From files to checked rows, splits, tokens and batches."""
