"""The leaderboard: what a bench left on disk, read, ranked and shown. Imports no torch."""
