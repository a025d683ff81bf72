"""Trainings of a bench in TensorBoard, Weights & Biases or Trackio, by the trackers of accelerate."""
