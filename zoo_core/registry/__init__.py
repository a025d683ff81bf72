"""Which plugin answers: loading plugins, and resolving what users name."""
