"""Best, median and worst scan, with the annotated and the predicted outlines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewlabel.reporting.blocks import Block, Section, Strip, Text
from fewlabel.reporting.figure_style import CONTOUR_NAMES
from fewlabel.reporting.figures.images import choose_slices, slice_box, slice_figure
from fewlabel.reporting.formatting import listed, number

TITLE = "Best, median and worst scan"
MISSING = "No scan can be shown: this needs scores, the prepared scans and the segmentation network."


@dataclass(frozen=True)
class ShownCase:
    """One scan to show.

    Attributes:
        rank: ``Best``, ``Median`` or ``Worst``.
        id: Of the scan.
        images: (depth, height, width), in [0, 1].
        reference: (depth, height, width) class indices, 255 where not annotated.
        predictions: Arm name → (depth, height, width) class indices.
        dice: Arm name → mean Dice over classes.
    """

    rank: str
    id: str
    images: NDArray[np.floating]
    reference: NDArray[np.integer]
    predictions: Mapping[str, NDArray[np.integer]]
    dice: Mapping[str, float]


def case_section(cases: Sequence[ShownCase] | None, names: Sequence[str], why: str = "") -> Section:
    """A strip of slices per scan and network.

    Args:
        cases: What to show; None where it cannot be.
        names: Class names, background first.
        why: Why nothing can be shown.
    """
    if not cases:
        return Section("cases", TITLE, "", [Text(why or MISSING, "missing")])
    legend = listed([f"{name} {CONTOUR_NAMES[index % len(CONTOUR_NAMES)]}" for index, name in enumerate(names[1:])], 12)
    lead = (
        "Ranked by the mean Dice of the network in use. Solid outlines are the annotation; dashed ones with a faint "
        f"fill, the prediction: {legend}. Shown on the network's input grid, cropped to the structures."
    )
    blocks: list[Block] = []
    for case in cases:
        box = slice_box([case.reference, *case.predictions.values()], case.images.shape[1:], margin=8)
        slices = choose_slices(case.reference)
        for arm, prediction in case.predictions.items():
            tiles = [
                slice_figure(
                    case.images[z][box],
                    case.reference[z][box],
                    prediction[z][box],
                    alt=f"{case.rank} scan {case.id}, slice {z + 1} of {len(case.images)}: annotation and {arm}.",
                    caption=f"slice {z + 1} of {len(case.images)}",
                )
                for z in slices
            ]
            title = f"{case.rank}: {case.id}"
            blocks.append(Strip(title, f"{arm}, mean Dice {number(case.dice.get(arm))}", tiles))
    return Section("cases", TITLE, lead, blocks)


def pick_cases(dice: Mapping[str, float]) -> list[tuple[str, str]]:
    """(rank, case) of the best, the median and the worst of one or more cases by Dice, each case once.

    With an even number of cases the lower of the two middle ones is taken.
    """
    order = sorted(dice, key=lambda case: (dice[case], case))
    ranks: dict[str, str] = {}
    for rank, place in (("Best", -1), ("Worst", 0), ("Median", (len(order) - 1) // 2)):
        ranks.setdefault(order[place], rank)
    return sorted((rank, case) for case, rank in ranks.items())
