"""Overlap and surface distances of one case, with a declared rule for empty masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewlabel.scoring.component_rule import stray

EMPTY_MASK_RULE = (
    "A class absent from both masks scores Dice 1 and has no distance. A class absent from one of them scores Dice 0 "
    "and its distances are the diagonal of the image in mm: it is counted as missed (absent from the prediction) or "
    "invented (absent from the reference)."
)
STRAY_RULE = (
    "A stray object is a piece of a predicted class that shares no voxel with the annotation of that class (26 "
    "neighbours). A class counts as lost in a scan whose annotation has it if its Dice is 0, whether or not anything "
    "was predicted."
)
DISTANCE_RULE = (
    "Distances run in mm between the border voxels (6-neighbourhood; 4-neighbourhood for a single slice) of the two "
    "masks. HD95 is the larger of the two directed 95th percentiles. ASSD is the mean of the distances of both "
    "directions taken together."
)


@dataclass(frozen=True)
class ClassScore:
    """How well one class of one case was found.

    Attributes:
        index: Class index.
        dice: 2|P∩R| / (|P|+|R|), in [0, 1].
        hd95_mm: Symmetric 95th percentile Hausdorff distance in mm; None where the rule gives none.
        assd_mm: Average symmetric surface distance in mm; None where the rule gives none.
        missed: In the reference, absent from the prediction.
        invented: In the prediction, absent from the reference.
        reference_ml: Volume in the reference, in ml.
        predicted_ml: Volume in the prediction, in ml.
        stray: Pieces of the prediction that share no voxel with the reference.
        stray_ml: Their volume, in ml.
    """

    index: int
    dice: float
    hd95_mm: float | None
    assd_mm: float | None
    missed: bool
    invented: bool
    reference_ml: float
    predicted_ml: float
    stray: int
    stray_ml: float


def score_case(
    prediction: NDArray[np.integer],
    reference: NDArray[np.integer],
    spacing: Sequence[float],
    classes: Sequence[int],
    *,
    surface: bool = True,
) -> list[ClassScore]:
    """Scores of every class of one case by :data:`EMPTY_MASK_RULE`, :data:`DISTANCE_RULE` and :data:`STRAY_RULE`.

    Args:
        prediction: (Z, Y, X) class indices.
        reference: (Z, Y, X) class indices on the same grid.
        spacing: (z, y, x) in mm.
        classes: Class indices to score, usually all but background.
        surface: Whether to measure distances; without them both are None throughout.

    Raises:
        ValueError: If shapes or the number of spacings do not agree.
    """
    if prediction.shape != reference.shape or len(spacing) != prediction.ndim:
        raise ValueError(
            f"prediction {prediction.shape}, reference {reference.shape} and spacing {tuple(spacing)} must agree"
        )
    voxel_ml = math.prod(spacing) / 1000.0
    diagonal = image_diagonal(prediction.shape, spacing)
    scores = []
    for index in classes:
        predicted, wanted = prediction == index, reference == index
        sizes = int(predicted.sum()), int(wanted.sum())
        hd95: float | None = None
        assd: float | None = None
        if surface and all(sizes):
            hd95, assd = surface_distances(predicted, wanted, spacing)
        elif surface and any(sizes):
            hd95 = assd = diagonal
        astray = stray(predicted, wanted)
        scores.append(
            ClassScore(
                index=int(index),
                dice=_dice(predicted, wanted),
                hd95_mm=hd95,
                assd_mm=assd,
                missed=sizes[0] == 0 < sizes[1],
                invented=sizes[1] == 0 < sizes[0],
                reference_ml=sizes[1] * voxel_ml,
                predicted_ml=sizes[0] * voxel_ml,
                stray=astray.pieces,
                stray_ml=astray.voxels * voxel_ml,
            )
        )
    return scores


def image_diagonal(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """Length of the diagonal of an image's extent (size times spacing along each axis), in mm."""
    return math.hypot(*(size * step for size, step in zip(shape, spacing, strict=True)))


def surface_distances(
    predicted: NDArray[np.bool_], wanted: NDArray[np.bool_], spacing: Sequence[float]
) -> tuple[float, float]:
    """HD95 and ASSD of two masks that both hold something, in mm.

    Both masks are cut to the box around their union first: no border voxel lies outside it, and what lies beyond the
    cut or the image counts as background, so the result is that of the whole image. Axes of one voxel are dropped:
    along them every voxel would be a border.

    Args:
        predicted: (Z, Y, X) or (Y, X), boolean, not empty.
        wanted: The same shape, boolean, not empty.
        spacing: mm along each axis.
    """
    # MONAI takes seconds to import and is needed here only.
    from monai.metrics.utils import get_mask_edges, get_surface_distance

    axes = [axis for axis, size in enumerate(predicted.shape) if size > 1] or [0]
    dropped = tuple(axis for axis in range(predicted.ndim) if axis not in axes)
    predicted, wanted = predicted.squeeze(dropped), wanted.squeeze(dropped)
    box = union_box(predicted, wanted)
    edges = get_mask_edges(predicted[box], wanted[box], crop=False)
    steps = [float(spacing[axis]) for axis in axes]
    there = get_surface_distance(edges[0], edges[1], spacing=steps)
    back = get_surface_distance(edges[1], edges[0], spacing=steps)
    hd95 = max(float(np.percentile(directed, 95)) for directed in (there, back))
    return hd95, float(np.concatenate([there, back]).mean(dtype=np.float64))


def union_box(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The smallest box that holds both masks; at least one must hold something."""
    both = first | second
    box = []
    for axis in range(both.ndim):
        inside = np.flatnonzero(both.any(axis=tuple(other for other in range(both.ndim) if other != axis)))
        box.append(slice(int(inside[0]), int(inside[-1]) + 1))
    return tuple(box)


def dice_per_class(
    prediction: NDArray[np.integer], reference: NDArray[np.integer], classes: int
) -> NDArray[np.float64]:
    """Dice of every foreground class under :data:`EMPTY_MASK_RULE`.

    Args:
        prediction: Class indices, any shape.
        reference: Class indices, the same shape.
        classes: Number of classes, background included.

    Returns:
        (classes - 1,) values in [0, 1], class 1 first.
    """
    return np.array([_dice(prediction == index, reference == index) for index in range(1, classes)])


def _dice(predicted: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> float:
    total = int(predicted.sum()) + int(wanted.sum())
    return 2.0 * int((predicted & wanted).sum()) / total if total else 1.0
