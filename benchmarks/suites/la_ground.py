"""The default and its controls on the left atrium, in 3D patches.

The set has eight training volumes and four for testing here, and the literature has no validation part. So two of the
eight validate, others in each draw, as two volumes tell little: choices are made on them. The four of ``test.list`` are
scored only where an arm is named as ``test/ARM``. A training serves both. Grid, patch and network of the recipe
``la-lite``. See :mod:`suites.ground`.
"""

from __future__ import annotations

from collections.abc import Iterator

from suites.ground import BEFORE, CONTROL, DEFAULT, THREE, Cell, Ground, Split, cells_of

BUDGETS = (2, 4)
#: Two of eight.
HELD = {"validation_fraction": 0.25}


def plan() -> Iterator[Cell]:
    """All cells of the table, the most wanted first."""
    yield from cells_of("validation", (DEFAULT, CONTROL, BEFORE), BUDGETS, THREE)
    yield from cells_of("test", (DEFAULT, CONTROL), BUDGETS, THREE)


GROUND = Ground(
    suite="la-ground",
    cells=tuple(plan()),
    splits={
        "validation": Split("part", HELD, part="validation", numbers="parts"),
        "test": Split("part", HELD, numbers="parts"),
    },
    choices="validation",
    # About 40 minutes of one core with the evaluation.
    units=4500,
    unit_seconds=0.5,
    recipe="la-lite",
    # The recipe's rate is that of 300 steps.
    finetune={"optimiser": {"lr": 2e-3}},
)
