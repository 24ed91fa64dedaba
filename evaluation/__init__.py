"""Measures accuracy and visibility, makes weights better, draws figures, watches trainings."""
