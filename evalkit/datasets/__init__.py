"""Readers of published data layouts, one file a family."""
