"""The default and its controls on the hippocampus: two structures in small slices of many patients.

Decathlon's Task04 has one part with labels, so its split is random: 17 patients validate, whom choices are made on; 34
test, and are scored only where an arm is named as ``test/ARM``. A training serves both. Scans that Decathlon keeps for
its own test take no part. See :mod:`suites.ground`.
"""

from __future__ import annotations

from collections.abc import Iterator

from suites.ground import BEFORE, CONTROL, DEFAULT, THREE, Cell, Ground, Split, cells_of

BUDGETS = (2, 4, 8)
#: Every scan is held in full.
GRID = {"reader": "msd", "split": "random", "spacing": [1.0, 1.0], "size": [64, 48]}


def plan() -> Iterator[Cell]:
    """All cells of the table, the most wanted first."""
    yield from cells_of("validation", (DEFAULT, CONTROL, BEFORE), BUDGETS, THREE)
    yield from cells_of("test", (DEFAULT, CONTROL), BUDGETS, THREE)


GROUND = Ground(
    suite="hippocampus-ground",
    cells=tuple(plan()),
    splits={
        "validation": Split("random", GRID, part="validation"),
        "test": Split("random", GRID),
    },
    choices="validation",
    # About 15 minutes of one core.
    units=8000,
    unit_seconds=0.1,
    recipe="default",
    # As a run on a CPU is sized.
    finetune={"network": {"width": 16}},
    # Measured on one core at a batch of 16: 0.30 s over 0.15 s.
    costs={"fixmatch": 1.95},
)
