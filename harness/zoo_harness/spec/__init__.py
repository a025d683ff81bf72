"""What a user asks for: keys, presets, reading, settings of algorithms."""
