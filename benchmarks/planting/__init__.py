"""Data sets in which faults are planted, and whether they are named."""
