"""The ground below every method on ACDC, part by part, and the default that stands on it.

Choices are made on the split ``develop``. The default and its control, both in half of the time, are then run once on
the literature's test parts, and each such row says which settings it was made with. Recipe ``default``, which
``fewlabel train`` uses if told nothing, on the grid that it chooses; what was before it sees the middle of the slices
alone. Arms that begin from an encoder pay for it out of the same time. See :mod:`suites.ground`.
"""

from __future__ import annotations

from collections.abc import Iterator

from suites.ground import FIVE, ONE, THREE, Cell, Ground, Split, cells_of

MAIN = ("supervised", "+anatomy", "+statistics", "+post-processing", "weak-to-strong")
ABLATION = (
    "half-the-time",
    "half-the-time-supervised",
    "+geometry",
    "+intensity",
    "all-pieces",
    "position-partners",
    "members-3",
    "mean_teacher",
    "bcp",
)
ENCODED = ("gcl+weak-to-strong",)
#: The default and its control in the time that all draws can be afforded in.
TESTED = ("half-the-time", "half-the-time-supervised")


def plan() -> Iterator[Cell]:
    """All cells of the table, the most wanted first."""
    yield from cells_of("develop", MAIN, (1, 2), FIVE)
    yield from cells_of("develop", ABLATION, (1,), THREE)
    yield from cells_of("develop", ENCODED, (1,), THREE)
    yield from cells_of("develop", ("upper-bound",), (None,), ONE)
    yield from cells_of("chaitanya", TESTED, (1, 2), FIVE)
    yield from cells_of("ssl4mis", TESTED, (1, 3, 7), THREE)
    yield from cells_of("chaitanya", TESTED, (8,), THREE)


GROUND = Ground(
    suite="acdc-ground",
    cells=tuple(plan()),
    splits={
        "develop": Split("develop", {"split": "develop"}),
        "chaitanya": Split("chaitanya", {"split": "chaitanya"}),
        "ssl4mis": Split("ssl4mis", {"split": "ssl4mis"}, numbers="seeds"),
    },
    choices="develop",
    # About 40 minutes of two idle cores: what an hour's ``fewlabel train`` leaves for the model, beside its control.
    units=12000,
    unit_seconds=0.37,
    recipe="default",
    # As a run on a CPU is sized.
    finetune={"network": {"width": 16}},
    crop={"size": [128, 128], "spacing": [1.5, 1.5]},
)
