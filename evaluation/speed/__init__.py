"""Rates and memory, each beside a baseline timed in the same run."""
