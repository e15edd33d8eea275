"""Losses as pure tensor functions, and the rules that choose their positives."""
