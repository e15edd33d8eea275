"""Scans: what they are, how they are prepared, stored, sampled and augmented."""
