"""Measures and draws: the frozen test set, your own photos, accuracy, visibility, figures."""
