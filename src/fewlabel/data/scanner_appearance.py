"""How a slice would look on another scanner: changes of intensity that survive the standardisation of slices.

A network sees slices of zero mean and unit variance, which undoes whatever is affine in the intensities of a slice.
What is left is what is not linear (gamma, of the scan and of its negative), what differs from place to place (a bias
field, a low resolution), and what comes after the standardisation (random convolutions, a gain, a shift).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Generator, Tensor
from torch.nn import functional

from fewlabel.data.augment_settings import AugmentConfig
from fewlabel.data.elastic import spline_basis
from fewlabel.data.random_convolutions import random_convolutions

#: Control points of the bias field along each side, and their deviation over that of the field they span.
_POINTS, _SPREAD = 4, 2.0


@dataclass(frozen=True)
class Appearance:
    """What was drawn for n rows, on the CPU.

    Attributes:
        low_resolution: (n,) factor of the pixel size, 1 for none.
        inverted_gamma: (n,) exponent, 1 for none.
        bias: (n, 4, 4) control points of the logarithm of the field, 0 for none.
        convolution_seeds: (n,) int64, 0 for none.
        gain: (n,) factor.
        shift: (n,) in standard deviations of the slice.
    """

    low_resolution: Tensor
    inverted_gamma: Tensor
    bias: Tensor
    convolution_seeds: Tensor
    gain: Tensor
    shift: Tensor

    @classmethod
    def sample(cls, config: AugmentConfig, count: int, generator: Generator) -> Appearance | None:
        """Draw for ``count`` rows of the joined batch; None, and no draw, where all of it is switched off."""
        if not _wanted(config):
            return None
        u = torch.rand(count, 7, generator=generator, dtype=torch.float64).unbind(1)
        normal = torch.randn(count, 1 + _POINTS**2, generator=generator)
        off = torch.ones(count, dtype=torch.float64)
        coarse = torch.exp(u[1] * math.log(config.low_resolution))
        inverted = torch.exp((2 * u[3] - 1) * math.log(config.inverted_gamma))
        seeds = (u[5] * 2**53).long() + 1
        return cls(
            low_resolution=torch.where(u[0] < config.low_resolution_probability, coarse, off).float(),
            inverted_gamma=torch.where(u[2] < config.inverted_gamma_probability, inverted, off).float(),
            bias=normal[:, 1:].reshape(count, _POINTS, _POINTS) * (_SPREAD * config.bias),
            convolution_seeds=torch.where(u[4] < config.random_convolutions_probability, seeds, 0),
            gain=torch.exp((2 * u[6] - 1) * math.log(config.gain)).float(),
            shift=normal[:, 0] * config.shift,
        )

    def __getitem__(self, rows: slice | Tensor) -> Appearance:
        return Appearance(**{item.name: getattr(self, item.name)[rows] for item in fields(self)})

    def before_standardisation(self, images: Tensor) -> Tensor:
        """Low resolution, gamma of the negative, bias field; in place on (n, channels, height, width) in [0, 1].

        The bias field may lift values above 1.
        """
        images = apply_low_resolution(images, self.low_resolution)
        images = apply_inverted_gamma(images, self.inverted_gamma)
        return apply_bias(images, self.bias)

    def after_standardisation(self, images: Tensor) -> Tensor:
        """Random convolutions, then gain and shift; in place on standardised (n, channels, height, width)."""
        images = random_convolutions(images, self.convolution_seeds)
        return apply_gain_and_shift(images, self.gain, self.shift)


def apply_low_resolution(images: Tensor, factor: Tensor) -> Tensor:
    """Average over coarser pixels and enlarge them again, for rows whose factor is above 1; in place.

    Args:
        images: (n, channels, height, width).
        factor: (n,) of the pixel size, on the CPU.
    """
    height, width = images.shape[-2:]
    for row in torch.nonzero(factor > 1).flatten().tolist():
        coarse = [max(1, round(side / float(factor[row]))) for side in (height, width)]
        small = functional.interpolate(images[row : row + 1], coarse, mode="area")
        images[row] = functional.interpolate(small, (height, width), mode="bilinear", align_corners=False)[0]
    return images


def apply_inverted_gamma(images: Tensor, gamma: Tensor) -> Tensor:
    """Compute 1 - (1 - x)^gamma, for rows whose gamma is not 1; in place.

    Args:
        images: (n, channels, height, width) on [0, 1].
        gamma: (n,) on the CPU.
    """
    rows = torch.nonzero(gamma != 1).flatten()
    if len(rows):
        here = rows.to(images.device)
        exponent = gamma[rows].to(images.device)[:, None, None, None]
        negative = images.index_select(0, here).neg_().add_(1).clamp_(0, 1).pow_(exponent)
        images.index_copy_(0, here, negative.neg_().add_(1))
    return images


def apply_bias(images: Tensor, control: Tensor) -> Tensor:
    """Multiply by the exponential of a cubic B-spline field; in place.

    Args:
        images: (n, channels, height, width).
        control: (n, 4, 4) control points of the field's logarithm, on the CPU.
    """
    if not bool(control.any()):
        return images
    down, across = (spline_basis(side, _POINTS - 3).to(images.device) for side in images.shape[-2:])
    field = (down @ control.to(images.device) @ across.t()).exp_()
    return images.mul_(field[:, None])


def apply_gain_and_shift(images: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    """Compute gain · x + shift; in place.

    Args:
        images: (n, channels, height, width).
        gain: (n,) on the CPU.
        shift: (n,) on the CPU.
    """
    if bool((gain == 1).all()) and bool((shift == 0).all()):
        return images
    factor, offset = (part.to(images.device)[:, None, None, None] for part in (gain, shift))
    return images.mul_(factor).add_(offset)


def _wanted(config: AugmentConfig) -> bool:
    """Whether any of it is switched on."""
    odds = config.low_resolution_probability, config.inverted_gamma_probability, config.random_convolutions_probability
    return max(*odds, config.bias, config.gain - 1, config.shift) > 0
