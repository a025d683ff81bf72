"""The engine behind `Run`: one loop, its state, its seeds and its checkpoints."""
