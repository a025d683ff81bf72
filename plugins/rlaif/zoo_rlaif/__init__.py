"""Learning from AI feedback: RLAIF, d-RLAIF and Constitutional AI."""
