"""Metrics with declared rules for empty masks, and the statistics of comparisons."""
