"""RLOO: REINFORCE whose baseline for a response is the mean reward of the prompt's other responses."""
