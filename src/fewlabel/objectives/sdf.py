"""Signed distance functions of masks: how far a pixel is from a structure's boundary, negative inside."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from fewlabel.objectives.segmentation import IGNORE


def signed_distance(mask: NDArray[np.bool_], known: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
    """The normalised signed distance function of one structure (Xue et al., AAAI 2020; Luo et al., AAAI 2021).

    Inside, minus the Euclidean distance to the boundary over its largest value; outside, plus the same. The boundary
    is made of the pixels of the structure that have a face in common with one outside, and is 0. So is a structure of
    boundary pixels alone.

    Where there is no structure there is no boundary: everything is as far outside as can be, +1, and a structure that
    fills the image is -1. Public codes give 0 for the first, which says that the boundary is everywhere.

    Of pixels that nobody has labelled it is not known on which side they lie: they make no boundary, and count for no
    largest distance. A boundary may be hidden among them, so distances are those to the nearest one that is seen.

    Args:
        mask: (*space), where the structure is.
        known: (*space), what is labelled at all; everything by default.

    Returns:
        (*space) in [-1, 1], in units of the largest distance of either side; 0 where nothing is known.
    """
    known = np.ones_like(mask) if known is None else known
    within, beyond = mask & known, ~mask & known
    boundary = within & ~ndimage.binary_erosion(~beyond, border_value=1)
    if not boundary.any():
        return np.asarray(np.where(beyond, 1.0, np.where(within, -1.0, 0.0)), dtype=np.float32)
    distance: NDArray[Any] = ndimage.distance_transform_edt(~boundary)
    inside = np.where(within, distance, 0.0)
    outside = np.where(beyond, distance, 0.0)
    result = outside / max(outside.max(), 1.0) - inside / max(inside.max(), 1.0)
    return np.asarray(result, dtype=np.float32)


def signed_distances(labels: Tensor, classes: int) -> Tensor:
    """One signed distance function per foreground class and slice (or patch), computed on the processor.

    Args:
        labels: (n, *space) integer class indices; 255 is not labelled.
        classes: Number of classes C, background included.

    Returns:
        (n, C - 1, *space) float32 in [-1, 1] on the labels' device, 0 where there is no label; channel c is class
        c + 1.
    """
    rows = labels.cpu().numpy()
    distances = np.ones((len(rows), classes - 1, *rows.shape[1:]), dtype=np.float32)
    for row, slice_labels in enumerate(rows):
        known = slice_labels != IGNORE
        for channel in range(classes - 1):
            distances[row, channel] = signed_distance(slice_labels == channel + 1, known)
    return torch.from_numpy(distances).to(labels.device)


def soft_mask(distances: Tensor, steepness: float = 1500.0) -> Tensor:
    """K(z) = sigmoid(-k z): nearly 1 inside, ½ on the boundary, nearly 0 outside, with a gradient near the boundary.

    Args:
        distances: Signed distances z, any shape.
        steepness: k.
    """
    return torch.sigmoid(-steepness * distances)
