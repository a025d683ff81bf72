"""What a plugin author imports: hooks, records, run, rollout, reward, data and the meter."""
