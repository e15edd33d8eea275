"""Embeddings of whole slices, for views of what an encoder has learnt."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewlabel.data.intensity import standardise


@torch.inference_mode()
def embed_slices(
    embed: Callable[[Tensor], Tensor], images: NDArray[np.float16], indices: NDArray[np.int64], device: torch.device
) -> Tensor:
    """Embeddings (n, dim) float32 on the CPU of chosen slices, standardised but not augmented.

    Args:
        embed: (n, channels, height, width) → (n, dim).
        images: (slices, channels, height, width), in [0, 1].
        indices: Slices to embed, n of them.
        device: Where the network lies.
    """
    parts = []
    for start in range(0, len(indices), 64):
        rows = torch.from_numpy(np.asarray(images[indices[start : start + 64]], dtype=np.float32)).to(device)
        parts.append(embed(standardise(rows).to(memory_format=torch.channels_last)).float().cpu())
    return torch.cat(parts)
