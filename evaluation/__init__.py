"""Measures and draws: the frozen test set, accuracy, visibility, speed, figures."""
