"""Predictions on scans without labels, to be judged by eye."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewlabel.reporting.blocks import Block, Section, Strip, Text
from fewlabel.reporting.figure_style import CONTOUR_NAMES
from fewlabel.reporting.figures.images import choose_slices, slice_box, slice_figure
from fewlabel.reporting.formatting import count, listed, number

TITLE = "Predictions on unlabelled scans"
NONE = "The network was trained on the labels of every training scan, so there is no other scan to show."
SLICES = 3


@dataclass(frozen=True)
class ShownScan:
    """One scan to show.

    Attributes:
        id: Of the scan.
        place: From 1, by confidence, the least sure first.
        images: (depth, height, width), in [0, 1].
        prediction: (depth, height, width) class indices.
        confidence: Mean probability of the predicted class within the prediction; None where nothing was found.
    """

    id: str
    place: int
    images: NDArray[np.floating]
    prediction: NDArray[np.integer]
    confidence: float | None


def unlabelled_section(
    scans: Sequence[ShownScan], surveyed: int, names: Sequence[str], network: str, why: str = ""
) -> Section:
    """A strip of slices per scan, the least sure first.

    Args:
        scans: What to show.
        surveyed: Number of scans that were predicted to choose them from.
        names: Class names, background first.
        network: What the network is called.
        why: Why nothing can be shown.
    """
    if not scans:
        return Section("unlabelled", TITLE, "", [Text(why or NONE, "missing")])
    legend = listed([f"{name} {CONTOUR_NAMES[index % len(CONTOUR_NAMES)]}" for index, name in enumerate(names[1:])], 12)
    lead = (
        f"There are no scores for these: judge them by eye. {len(scans)} of {count(surveyed, 'predicted scan')}, from "
        f"the least to the most confident. Network: {network}. Outlines are the prediction: {legend}. Shown are the "
        "first and the last slice with a structure and one in between."
    )
    blocks: list[Block] = [_strip(scan, surveyed) for scan in scans]
    note = (
        "Confidence is the mean probability of the predicted class within the prediction. It ranks scans but does not "
        "measure quality: a network can be confident and wrong."
    )
    return Section("unlabelled", TITLE, lead, [*blocks, Text(note, "note")])


def _strip(scan: ShownScan, surveyed: int) -> Strip:
    rows, columns = slice_box([scan.prediction], scan.images.shape[1:], margin=16)
    tiles = [
        slice_figure(
            scan.images[z][rows, columns],
            prediction=scan.prediction[z][rows, columns],
            alt=f"Scan {scan.id}, slice {z + 1} of {len(scan.images)}: what was predicted.",
            caption=f"slice {z + 1} of {len(scan.images)}",
        )
        for z in choose_slices(scan.prediction, SLICES)
    ]
    sure = "nothing found" if scan.confidence is None else f"confidence {number(scan.confidence, 2)}"
    return Strip(scan.id, f"{sure}, {scan.place} of {surveyed} by confidence", tiles)
