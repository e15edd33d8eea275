"""Connected components of label maps."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor


def largest_components(labels: Tensor) -> Tensor:
    """Keep, of each class of each map, its largest connected component; the rest becomes background (0).

    Pixels that touch by an edge or a corner belong together. Of components of equal size the one that comes first in
    memory order is kept. A class that a map lacks stays absent.

    Args:
        labels: (n, *space) int64, 0 is background.

    Returns:
        Labels of the same shape, on the same device.
    """
    maps = labels.cpu().numpy()
    kept = np.zeros_like(maps)
    touching = np.ones((3,) * (maps.ndim - 1), dtype=np.int64)
    for old, new in zip(maps, kept, strict=True):
        for label in np.unique(old):
            if label != 0:
                parts, count = ndimage.label(old == label, structure=touching)
                sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
                new[parts == 1 + sizes.argmax()] = label
    return torch.from_numpy(kept).to(labels.device)


def component_counts(labels: Tensor, classes: int) -> Tensor:
    """Connected components of each class but the background in each map: (n, classes - 1) int64 on the CPU.

    Pixels that touch by an edge or a corner belong together.

    Args:
        labels: (n, *space) int64.
        classes: Number of classes, background included.
    """
    maps = labels.cpu().numpy()
    touching = np.ones((3,) * (maps.ndim - 1), dtype=np.int64)
    counts = [[ndimage.label(one == label, structure=touching)[1] for label in range(1, classes)] for one in maps]
    return torch.tensor(counts, dtype=torch.int64).reshape(len(maps), classes - 1)
