"""An example of an algorithm as a plugin."""
