"""Random affine warps of a batch, and the demand that a network's output follows them (equivariance, ARCO's code).

A warp turns in the plane of the last two axes, scales and shifts along all axes, and may mirror the last one. The
public code bends by a thin-plate spline of deviation 0.01 beside that; this is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor
from torch.nn import functional

from fewlabel.core.collective import world_size
from fewlabel.core.full_precision import full_precision
from fewlabel.objectives.batch_noise_and_turns import own_part
from fewlabel.objectives.semi_supervised_loss_parts import log_probabilities, masked_mean


def random_warps(
    count: int,
    space: Sequence[int],
    generator: Generator,
    *,
    angle: float = 60.0,
    shift: float = 0.1,
    scale: float = 0.2,
    mirror: bool = True,
) -> Tensor:
    """Warps of this rank's rows, drawn for the joined batch.

    Args:
        count: Rows of this rank.
        space: Size of an image in pixels, two axes or three.
        generator: CPU generator, equal on all ranks.
        angle: Largest turn either way, in degrees.
        shift: Largest shift, as a share of a side.
        scale: Sizes lie in [1 - scale, 1 + scale].
        mirror: Mirror the last axis of every second row, on average.

    Returns:
        (count, axes, axes + 1) float64 on the CPU: places of the result to places of the source, in the coordinates
        of :func:`torch.nn.functional.affine_grid` (last axis first, sides from -1 to 1).
    """
    axes = len(space)
    drawn = own_part(torch.rand(count * world_size(), axes + 3, generator=generator, dtype=torch.float64))
    turn = (2 * drawn[:, 0] - 1) * math.radians(angle)
    size = 1 + (2 * drawn[:, 1] - 1) * scale
    flip = torch.where((drawn[:, 2] < 0.5) & mirror, -1.0, 1.0)
    linear = torch.eye(axes, dtype=torch.float64).repeat(count, 1, 1)
    cosine, sine = turn.cos(), turn.sin()
    # A turn in pixels is a shear in coordinates whose sides are all 2 long.
    ratio = space[-2] / space[-1]
    linear[:, 0, 0], linear[:, 0, 1] = cosine * flip, -sine * ratio
    linear[:, 1, 0], linear[:, 1, 1] = sine * flip / ratio, cosine
    offset = 2 * shift * (2 * drawn[:, 3:] - 1)
    return torch.cat([linear / size[:, None, None], offset[:, :, None]], dim=2)


def warp(maps: Tensor, warps: Tensor) -> Tensor:
    """Resample maps (n, channels, *space) linearly, in full precision; what lies outside is 0.

    Args:
        maps: Images, logits or masks as numbers.
        warps: (n, axes, axes + 1) of :func:`random_warps`.
    """
    with torch.autocast(maps.device.type, enabled=False):
        maps = full_precision(maps)
        places = functional.affine_grid(warps.to(maps), list(maps.shape), align_corners=False)
        return functional.grid_sample(maps, places, mode="bilinear", padding_mode="zeros", align_corners=False)


def warp_images(images: Tensor, warps: Tensor) -> Tensor:
    """As :func:`warp`, but what lies outside is as dark as the darkest pixel of the image, not 0.

    Images are standardised here: 0 is their mean, and a grey frame would change the statistics of the batch.
    """
    darkest = images.flatten(1).amin(dim=1).view(-1, *[1] * (images.dim() - 1))
    return (warp(images - darkest, warps) + darkest).to(images.dtype)


def equivariance(logits: Tensor, warped_logits: Tensor, warps: Tensor, threshold: float) -> Tensor:
    """Mean of KL( softmax(T f(x)) ‖ softmax(f(T x)) ) where T f(x) is surely foreground: this rank's share.

    Args:
        logits: (n, classes, *space) f(x); detached.
        warped_logits: (n, classes, *space) f(T x), with gradient.
        warps: T.
        threshold: Probability from which a foreground pixel counts.

    Returns:
        Scalar ≥ 0; 0 with a usable graph where no pixel counts. Beyond the border T f(x) is 0 for all classes, but
        so is the mask, so pixels count only as far as they show the image.
    """
    with torch.no_grad():
        sure, labels = log_probabilities(logits).max(dim=1)
        mask = (labels > 0) & (sure >= math.log(max(threshold, 1e-12)))
        weight = warp(mask[:, None].to(full_precision(logits).dtype), warps)[:, 0]
        target = log_probabilities(warp(logits, warps))
    difference = target.exp() * (target - log_probabilities(warped_logits))
    return masked_mean(difference.sum(dim=1), weight)
