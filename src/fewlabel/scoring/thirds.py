"""Where along the slices a structure is found well or badly: in thirds of what is annotated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: Columns of tables of scores, in the order of the slices.
COLUMNS = ("dice_first", "dice_middle", "dice_last")
THIRDS_RULE = (
    "Thirds run along the slices, from the first to the last that has any structure in the annotation; slices beyond "
    "belong to the nearest third. A third without a structure, in annotation and prediction alike, has no value."
)


def dice_of_thirds(
    prediction: NDArray[np.integer], reference: NDArray[np.integer], classes: Sequence[int], axis: int = 0
) -> list[tuple[float | None, float | None, float | None]]:
    """Dice of every class in each third, as :data:`THIRDS_RULE` has it.

    Args:
        prediction: Class indices, three axes.
        reference: Class indices on the same grid; 0 is background.
        classes: Class indices to score.
        axis: Across the slices.

    Example:
        >>> reference = np.array([0, 1, 1, 1, 0]).reshape(5, 1, 1)
        >>> dice_of_thirds(np.array([1, 1, 1, 0, 0]).reshape(5, 1, 1), reference, [1])
        [(0.6666666666666666, 1.0, 0.0)]
    """
    predicted, wanted = (np.moveaxis(mask, axis, 0).reshape(mask.shape[axis], -1) for mask in (prediction, reference))
    annotated = np.flatnonzero((wanted > 0).any(axis=1))
    if not annotated.size:
        return [(None, None, None) for _ in classes]
    first, count = int(annotated[0]), int(annotated[-1] - annotated[0] + 1)
    third = np.clip(3 * (np.arange(len(wanted)) - first) // count, 0, 2)
    return [_of_class(predicted == index, wanted == index, third) for index in classes]


def _of_class(
    predicted: NDArray[np.bool_], wanted: NDArray[np.bool_], third: NDArray[np.int64]
) -> tuple[float | None, float | None, float | None]:
    sizes = predicted.sum(axis=1) + wanted.sum(axis=1)
    shared = (predicted & wanted).sum(axis=1)
    totals = np.bincount(third, weights=sizes, minlength=3)
    both = np.bincount(third, weights=shared, minlength=3)
    first, middle, last = (2.0 * float(s) / float(t) if t else None for s, t in zip(both, totals, strict=True))
    return first, middle, last
