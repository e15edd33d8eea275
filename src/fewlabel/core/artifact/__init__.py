"""Artifacts: folders with a manifest that says what is in them and where it came from."""
