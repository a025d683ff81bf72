"""GKD: learn a teacher's whole distribution over the next token, on responses of one's own."""
