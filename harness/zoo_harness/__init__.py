"""The `zoo` command: bench, plan, train, eval, plugins, leaderboard."""
