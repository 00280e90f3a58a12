"""Exact statistics over every pair of two feature sets."""
