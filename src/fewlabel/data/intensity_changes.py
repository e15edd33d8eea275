"""Changes of intensity on batches of slices, each touching only the rows that draw it, and standardisation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

#: Added to the variance of a slice; far below that of any real slice on [0, 1], it keeps an empty one at 0.
STANDARDISE_EPS = 1e-6


def standardise(images: Tensor) -> Tensor:
    """Zero mean and unit variance per slice and channel: what every network of this library sees.

    Args:
        images: (n, channels, height, width), any finite range.

    Returns:
        The same shape, float32; a constant slice becomes 0.
    """
    return functional.layer_norm(images.float(), images.shape[-2:], eps=STANDARDISE_EPS)


def apply_gamma(images: Tensor, gamma: Tensor) -> Tensor:
    """Raise to the power of gamma, for rows whose gamma is not 1; in place.

    Args:
        images: (n, channels, height, width) on [0, 1].
        gamma: (n,) on the CPU.
    """
    rows = torch.nonzero(gamma != 1).flatten()
    if len(rows):
        here = rows.to(images.device)
        exponent = gamma[rows].to(images.device)[:, None, None, None]
        images.index_copy_(0, here, images.index_select(0, here).clamp_min_(0).pow_(exponent))
    return images


def apply_contrast(images: Tensor, contrast: Tensor, brightness: Tensor) -> Tensor:
    """Compute contrast · (x - mean) + mean + brightness, cut to [0, 1]; in place, one pass and one cut.

    Args:
        images: (n, channels, height, width) on [0, 1]; the mean is per slice and channel.
        contrast: (n,) factor, on the CPU.
        brightness: (n,) shift, on the CPU.
    """
    if bool((contrast == 1).all()) and bool((brightness == 0).all()):
        return images
    factor = contrast.to(images.device)[:, None, None, None]
    shift = brightness.to(images.device)[:, None, None, None]
    offset = images.mean(dim=(2, 3), keepdim=True) * (1 - factor) + shift
    return torch.addcmul(offset, images, factor, out=images).clamp_(0, 1)


def apply_noise(images: Tensor, noise: Tensor, seeds: Tensor) -> Tensor:
    """Add Gaussian noise of a row's own seed, so that a row looks the same on whichever rank it lies; in place.

    Args:
        images: (n, channels, height, width).
        noise: (n,) standard deviation, 0 for none, on the CPU.
        seeds: (n,) int64, on the CPU.
    """
    generator = torch.Generator(images.device)
    for row in torch.nonzero(noise > 0).flatten().tolist():
        generator.manual_seed(int(seeds[row]))
        drawn = torch.randn(images.shape[1:], generator=generator, device=images.device)
        images[row].add_(drawn, alpha=float(noise[row]))
    return images


def apply_blur(images: Tensor, blur: Tensor) -> Tensor:
    """Gaussian blur of 7 by 7 pixels, edges repeated, for rows whose width is above 0; in place.

    Args:
        images: (n, channels, height, width).
        blur: (n,) standard deviation in pixels, 0 for none, on the CPU.
    """
    rows = torch.nonzero(blur > 0).flatten()
    if len(rows):
        here = rows.to(images.device)
        taps = torch.arange(-3, 4, dtype=torch.float32)
        weights = torch.exp(-0.5 * (taps / blur[rows, None]).square())
        weights = (weights / weights.sum(dim=1, keepdim=True)).to(images.device)
        weights = weights.repeat_interleave(images.shape[1], dim=0)
        blurred = images.index_select(0, here)
        # Rows become the groups of one convolution, since each has a kernel of its own.
        flat = functional.pad(blurred.flatten(0, 1)[None], (3, 3, 3, 3), mode="replicate")
        flat = functional.conv2d(flat, weights[:, None, :, None], groups=weights.shape[0])
        flat = functional.conv2d(flat, weights[:, None, None, :], groups=weights.shape[0])
        images.index_copy_(0, here, flat.view_as(blurred))
    return images
