"""Embeddings of whole slices and scans, for views of what an encoder has learnt."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fewlabel.core.progress import task
from fewlabel.data.intensity_changes import standardise
from fewlabel.data.store import PreparedCase, PreparedStore
from fewlabel.nets.unet import UNetEncoder


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


def embed_scans(
    encoder: UNetEncoder,
    store: PreparedStore,
    cases: Sequence[PreparedCase],
    device: torch.device,
    window: tuple[int, int, int],
) -> NDArray[np.float64]:
    """One embedding (n, dim) of each scan: the mean of the encoder's last map over all pixels of all its slices.

    A 3D encoder sees the middle of the volume.

    Args:
        encoder: Moved to the device, in evaluation mode afterwards.
        store: The prepared data.
        cases: n scans of it.
        device: Where to compute.
        window: Largest part of a volume that a 3D encoder sees, (depth, height, width).
    """
    encoder.to(device).eval()
    rows = []
    with task("embed scans", len(cases)) as bar:
        for case in cases:
            if encoder.config.ndim == 2:
                places = np.arange(case.start, case.stop)
                slices = embed_slices(lambda x: encoder(x)[-1].mean(dim=(2, 3)), store.images, places, device)
                rows.append(slices.double().mean(dim=0).numpy())
            else:
                rows.append(_embed_middle(encoder, store, case, device, window))
            bar.advance(note=case.id)
    return np.stack(rows)


@torch.inference_mode()
def _embed_middle(
    encoder: UNetEncoder,
    store: PreparedStore,
    case: PreparedCase,
    device: torch.device,
    window: tuple[int, int, int],
) -> NDArray[np.float64]:
    images = torch.from_numpy(np.asarray(store.images[case.start : case.stop], dtype=np.float32))
    volume = standardise(images).movedim(1, 0)[None]
    pads: list[int] = []
    for axis, most in zip((2, 3, 4), window, strict=True):
        side = min(volume.shape[axis], most)
        volume = volume.narrow(axis, (volume.shape[axis] - side) // 2, side)
        pads = [0, -side % encoder.config.stride, *pads]
    padded = functional.pad(volume, pads, mode="replicate")
    return np.asarray(encoder(padded.to(device))[-1].mean(dim=(0, 2, 3, 4)).double().cpu().numpy())


def pixel_embedding(store: PreparedStore, cases: Sequence[PreparedCase]) -> NDArray[np.float64]:
    """What stands for an embedding where nothing was trained: each scan in 4 parts along its slices, 16 x 16 pixels.

    Args:
        store: The prepared data.
        cases: n scans of it.

    Returns:
        (n, channels * 4 * 256), intensities in [0, 1].
    """
    rows = []
    for case in cases:
        images = torch.from_numpy(np.asarray(store.images[case.start : case.stop], dtype=np.float32))
        small = functional.adaptive_avg_pool3d(images.movedim(1, 0)[None], (4, 16, 16))
        rows.append(small.flatten().double().numpy())
    return np.stack(rows)
