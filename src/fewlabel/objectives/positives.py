"""Which views are positives of which, from meta labels; pure functions of class ids, which need equality only.

Rows follow :mod:`fewlabel.objectives.views`: for S slices, rows 0 to S-1 are their first views and rows S to 2S-1
their second.
"""

from __future__ import annotations

import torch
from torch import Tensor


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
