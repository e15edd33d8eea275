"""Where the body is that moves between two phases of a scan, and how large it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fewlabel.data.pose_thumbnails import View

Floats = NDArray[np.float64]


def moving_bodies(views: Sequence[View]) -> tuple[Floats, float]:
    """Centre of what moves in every scan, (n, 2), and its typical size."""
    weights = [_motion_inside(view) for view in views]
    first = [moving_body(weight) for weight in weights]
    # Once more about the place of most: an arm at the border may move more than the body.
    place = np.median([centre for centre, _ in first], axis=0)
    size = float(np.median([size for _, size in first]))
    bodies = [moving_body(weight, (float(place[0]), float(place[1])), size) for weight in weights]
    return np.array([centre for centre, _ in bodies]), size


def _motion_inside(view: View) -> Floats:
    """Squared motion inside the field of view."""
    if view.motion is None:
        return np.zeros(view.image.shape)
    top, bottom, left, right = (int(edge) for edge in view.box)
    weights = np.zeros(view.image.shape)
    inside = slice(top, bottom + 1), slice(left, right + 1)
    weights[inside] = view.motion[inside].astype(np.float64) ** 2
    return weights


def moving_body(
    weights: Floats, start: tuple[float, float] | None = None, size: float | None = None
) -> tuple[tuple[float, float], float]:
    """Centre (row, column) of what moves, and its size, the root of the variance, in pixels.

    Only what lies under a Gaussian about the centre counts, and the Gaussian follows the centre.

    Args:
        weights: (height, width) squared motion, somewhere above 0.
        start: Where to look first; None for the whole picture.
        size: Of the body, which makes the Gaussian 1.5 times as wide; None for twice its own.
    """
    rows, columns = np.indices(weights.shape)
    centre, variance, near = start or (0.0, 0.0), 1.0, weights
    for step in range(10):
        if step or start is not None:
            width = 1.5 * size if size is not None else 2 * float(np.sqrt(variance))
            squares = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2
            near = weights * np.exp(-squares / (2 * width**2))
        # Where nothing moves there, the whole picture is looked at.
        near = near if near.sum() > 1e-12 * weights.sum() else weights
        total = near.sum()
        centre = float((near * rows).sum() / total), float((near * columns).sum() / total)
        squares = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2
        variance = max(float((near * squares).sum() / total), 1.0)
    return centre, float(np.sqrt(variance))
