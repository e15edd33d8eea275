"""Slices made up from labelled masks: every class and some clusters of the background in newly drawn brightnesses.

After SynthSeg (Billot et al., Medical Image Analysis 2023): regions get a random mean and deviation, the picture is
Gaussian noise of those, slightly blurred; the mask stays exactly. What follows - geometry, bias, contrast, noise - is
the augmentation of real slices. By default brightnesses are a random map of the real ones that keeps their order, since
within one modality that blood is brighter than muscle is a cue to keep.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from fewlabel.core.settings.base import Settings, setting
from fewlabel.data.intensity_changes import apply_blur
from fewlabel.data.store import UNLABELLED

#: Pixels of the background of a volume that its clusters are found from, at most.
SAMPLED = 50_000
#: Rounds of k-means; the clusters of scans hardly move after ten.
ROUNDS = 20
#: Gaussian width in pixels of what regions are told apart on, so that noise makes none.
CALM = 1.0
#: Gaussian widths in pixels, least and largest, of the borders of a made-up picture.
FEATHER = (0.5, 1.0)

_SYNTHSEG = "SynthSeg, Billot et al. 2023"


class SynthesisConfig(Settings):
    """Slices made up from labelled masks."""

    probability: float = setting(
        0.0,
        "probability that a labelled slice is replaced by a synthetic one; above 0.2 real contrast becomes rare",
        ge=0,
        le=1,
        source="off",
    )
    clusters: int = setting(
        6, "clusters of the background, by brightness in the volume", ge=1, le=16, source=f"4 to 8: {_SYNTHSEG}"
    )
    contrast: Literal["ordered", "free"] = setting(
        "ordered",
        "ordered: a random map of the real brightnesses that keeps their order; free: any brightness for any region",
        source=f"free: {_SYNTHSEG}; ordered: own choice",
    )


@dataclass(frozen=True)
class Palette:
    """The regions of a volume and how they look: its clusters of background, then its classes but background.

    Attributes:
        centres: (clusters, channels) brightness of each cluster.
        means: (regions, channels) of the real slices; 0 for a class that the volume lacks.
        deviations: (regions, channels) of the real slices.
    """

    centres: Tensor
    means: Tensor
    deviations: Tensor


def find_palette(images: NDArray[Any], masks: NDArray[Any], classes: int, clusters: int) -> Palette:
    """The palette of a volume; the same for the same volume, without a random number. A slice is read at a time.

    Args:
        images: (slices, channels, height, width) on [0, 1]; may be mapped from disk.
        masks: (slices, height, width) class indices, or 255 where unlabelled.
        classes: Classes with background.
        clusters: Clusters of the background.
    """
    stride = max(masks.size // SAMPLED, 1)
    points = []
    for image, mask in _tensors(images, masks):
        outside = (mask[0] == 0) | (mask[0] == UNLABELLED)
        points.append(_calm(image)[0].movedim(0, -1)[outside][::stride])
    centres = _k_means(torch.cat(points), clusters)
    regions, channels = clusters + classes - 1, centres.shape[1]
    counts = torch.zeros(regions, 1, dtype=torch.float64)
    sums, squares = torch.zeros(2, regions, channels, dtype=torch.float64)
    for image, mask in _tensors(images, masks):
        own = find_regions(image, mask, centres).flatten()
        values = image[0].flatten(1).T.double()
        counts += torch.bincount(own, minlength=regions)[:, None]
        sums.index_add_(0, own, values)
        squares.index_add_(0, own, values.square())
    means = sums / counts.clamp_min(1)
    deviations = (squares / counts.clamp_min(1) - means.square()).clamp_min(0).sqrt()
    return Palette(centres, means.float(), deviations.float())


def _tensors(images: NDArray[Any], masks: NDArray[Any]) -> Iterator[tuple[Tensor, Tensor]]:
    for image, mask in zip(images, masks, strict=True):
        yield torch.from_numpy(image.astype(np.float32))[None], torch.from_numpy(mask.astype(np.int64))[None]


def find_regions(images: Tensor, masks: Tensor, centres: Tensor) -> Tensor:
    """The region of every pixel: of background, and where there is no label, the cluster that is nearest.

    Args:
        images: (n, channels, height, width) on [0, 1].
        masks: (n, height, width) class indices or 255.
        centres: (clusters, channels).

    Returns:
        (n, height, width) int64, up to clusters + classes - 1.
    """
    apart = _calm(images)[:, None] - centres.to(images.device)[:, :, None, None]
    nearest = apart.square().sum(dim=2).argmin(dim=1)
    labels = masks.long()
    return torch.where((labels == 0) | (labels == UNLABELLED), nearest, labels - 1 + len(centres))


def synthesise(regions: Tensor, palette: Palette, contrast: str, look: int, place: int) -> Tensor:
    """A slice in made-up brightnesses.

    Args:
        regions: (height, width) of the slice.
        palette: Of its volume.
        contrast: ``ordered`` or ``free``, see :class:`SynthesisConfig`.
        look: Seed of the brightnesses, one for all slices of a patch.
        place: Tells such slices apart; it and the look say what noise a slice has.

    Returns:
        (channels, height, width) float32 on [0, 1], on the device of the regions.
    """
    device = regions.device
    generator = torch.Generator().manual_seed(look)
    means, deviations = _drawn(palette, contrast, generator)
    low, high = FEATHER
    width = low + (high - low) * torch.rand(1, generator=generator)
    source = torch.Generator(device).manual_seed((look + 1 + place) % 2**63)
    noise = torch.randn(means.shape[1], *regions.shape, generator=source, device=device)
    picture, spread = (values.to(device)[regions].movedim(-1, 0) for values in (means, deviations))
    return apply_blur(torch.addcmul(picture, spread, noise)[None], width)[0].clamp_(0, 1)


def _drawn(palette: Palette, contrast: str, generator: Generator) -> tuple[Tensor, Tensor]:
    """Means and deviations (regions, channels) of a look."""
    first, second = torch.rand(2, *palette.means.shape, generator=generator)
    ends = torch.rand(2, palette.means.shape[1], generator=generator)
    if contrast == "free":
        return 0.1 + 0.8 * first, 0.02 + 0.08 * second
    order = palette.means.argsort(dim=0, stable=True)
    sorted_means = palette.means.gather(0, order)
    # Steps from one brightness to the next, each up to e times larger or smaller, on a range drawn at both ends.
    steps = sorted_means.diff(dim=0, prepend=sorted_means[:1]) * torch.exp(2 * first - 1)
    heights = steps.cumsum(dim=0)
    low, high = 0.2 * ends[0], 0.6 + 0.4 * ends[1]
    means = torch.empty_like(heights).scatter_(0, order, low + (high - low) * heights / heights[-1].clamp_min(1e-6))
    # Real deviations hold what a region shows beside noise, so noise alone gets no more.
    return means, palette.deviations * torch.exp(-1.4 * second)


def _calm(images: Tensor) -> Tensor:
    return apply_blur(images.clone(), torch.full((len(images),), CALM))


def _k_means(points: Tensor, clusters: int) -> Tensor:
    """(clusters, channels) centres of (n, channels) points, from quantiles of their sum; empty ones stay."""
    if not len(points):
        return torch.zeros(clusters, points.shape[1])
    places = (torch.arange(clusters) + 0.5) / clusters * len(points)
    centres = points[points.sum(dim=1).argsort(stable=True)[places.long()]].clone()
    for _ in range(ROUNDS):
        nearest = torch.cdist(points, centres).argmin(dim=1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        counts = torch.bincount(nearest, minlength=clusters)[:, None]
        centres = torch.where(counts > 0, sums / counts.clamp_min(1), centres)
    return centres
