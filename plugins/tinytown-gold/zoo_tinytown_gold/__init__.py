"""What Tinytown keeps from training processes: its words and people, gold, the perfect answers and the test prompts."""
