"""The order of two-view batches, the same on one process and on many.

A rank holds ``n`` slices and stacks its views as ``[view 0 of its slices, view 1 of its slices]``, 2n rows. The
joined batch of ``k`` ranks is ``[view 0 of all slices, view 1 of all slices]``, 2kn rows, slices in rank order.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fewlabel.core.collective import gather, rank, world_size


def join_views(rows: Tensor) -> Tensor:
    """Rows (2n, ...) of this rank to rows (2kn, ...) of the joined batch; differentiable."""
    if world_size() == 1:
        return rows
    slices = rows.view(2, -1, *rows.shape[1:]).transpose(0, 1)
    return gather(slices).transpose(0, 1).flatten(0, 1)


def own_rows(slices: int, device: torch.device | str = "cpu") -> Tensor:
    """Where this rank's 2n rows lie in the joined batch.

    Args:
        slices: Slices of this rank, n.
        device: Device of the result.

    Returns:
        (2n,) int64.
    """
    first = torch.arange(slices, device=device) + rank() * slices
    return torch.cat([first, first + world_size() * slices])
