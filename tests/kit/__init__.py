"""Helpers shared by tests: synthetic stores and data, no test of their own."""
