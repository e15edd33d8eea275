"""Which views are positives of which: pure functions of class ids, which need equality only, and of heights.

Rows follow :mod:`fewlabel.objectives.two_view_order`: for S slices, rows 0 to S-1 are their first views and rows S to
2S-1 their second.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Largest rounding error of a distance between two float32 heights on (0, 1).
ROUNDING = 1e-6


def two_views(ids: Tensor) -> Tensor:
    """Ids (S,) of slices to ids (2S,) of their views."""
    return ids.repeat(2)


def others(rows: Tensor, count: int) -> Tensor:
    """All views but the anchor itself, A(i) of GCL.

    Args:
        rows: (a,) int64, the anchors' rows in the joined batch.
        count: Views in the joined batch.

    Returns:
        (a, count) bool.
    """
    return rows[:, None] != torch.arange(count, device=rows.device)


def same_id(ids: Tensor, rows: Tensor) -> Tensor:
    """Views whose id equals the anchor's, the anchor itself left out.

    Args:
        ids: (v,) int64 ids of all views.
        rows: (a,) int64, the anchors' rows.

    Returns:
        (a, v) bool.
    """
    return (ids[rows][:, None] == ids) & others(rows, len(ids))


def guided_positives(slices: Tensor, label: Tensor | None, rows: Tensor) -> Tensor:
    """P_m(i) of GCL: other views of the same source slice, or of a slice with the same meta label.

    Without a label this is the rule of SimCLR. A slice drawn twice into a batch is one source slice.

    Args:
        slices: (S,) int64 store indices of the joined batch.
        label: (S,) int64 class ids of one meta label, or None.
        rows: (a,) int64, the anchors' rows among the 2S views.

    Returns:
        (a, 2S) bool; every row has at least one positive, the other view.
    """
    mask = same_id(two_views(slices), rows)
    return mask if label is None else mask | same_id(two_views(label), rows)


def close_positions(slices: Tensor, positions: Tensor, threshold: float, rows: Tensor) -> Tensor:
    """P(i) of positional contrast (Zeng et al., MICCAI 2021): |p_i - p_j| < t, or views of the same source slice.

    The own view is a positive by rule: with the comparison alone, as in the public code, t = 0 leaves none. Distances
    that equal t but for rounding are not below it, so that all pairs as far apart as each other are treated alike.

    Args:
        slices: (S,) int64 store indices of the joined batch.
        positions: (S,) float, heights along the slice axis as a share of the volume.
        threshold: t, in the unit of the positions.
        rows: (a,) int64, the anchors' rows among the 2S views.

    Returns:
        (a, 2S) bool; every row has at least one positive, the other view.
    """
    heights = two_views(positions)
    close = (heights[rows][:, None] - heights).abs() < threshold - ROUNDING
    return (close & others(rows, len(heights))) | same_id(two_views(slices), rows)


def apart(label: Tensor, rows: Tensor) -> Tensor:
    """Views of another class than the anchor's: the negatives of Chaitanya et al. (NeurIPS 2020).

    Args:
        label: (S,) int64 class ids.
        rows: (a,) int64, the anchors' rows among the 2S views.

    Returns:
        (a, 2S) bool.
    """
    ids = two_views(label)
    return ids[rows][:, None] != ids
