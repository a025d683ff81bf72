"""The suite that every algorithm must pass, and small models, rows and tensors for tests."""
