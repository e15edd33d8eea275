"""Synthetic beating hearts."""
