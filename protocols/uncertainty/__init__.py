"""Intervals, paired tests and power: subjects are resampled, never comparisons."""
