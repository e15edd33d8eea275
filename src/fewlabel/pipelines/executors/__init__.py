"""Executors: many jobs, each in a folder of its own, by this process, by several, by Ray or by SLURM.

The folders are the only state. A job is done if its folder says so, whoever did it; what a killed process was at is
taken up by another one, or by the next start. An executor knows nothing of what jobs do.
"""
