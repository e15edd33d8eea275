"""Displacement fields that cannot fold: flows of velocity fields, their composition, and where a field would fold.

A field is (n, 2, height, width): what is added to x and y of every pixel, in pixels. Like all maps of augmentation it
points backwards, from where something is seen to where it is taken from.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

#: A flow of time 1 is made of 2 to this power equal steps; more would move no point by half a pixel.
SQUARINGS = 3
#: Fields that flow at a time; more of them leave the cache of a CPU.
_TOGETHER = 8


@lru_cache(maxsize=32)
def _pixels(size: tuple[int, int], device: torch.device) -> Tensor:
    """(1, 2, height, width): x and y of every pixel, in the units of ``grid_sample`` without aligned corners."""
    down, across = ((2 * torch.arange(side, dtype=torch.float64) + 1) / side - 1 for side in size)
    y, x = torch.meshgrid(down, across, indexing="ij")
    return torch.stack([x, y])[None].float().to(device)


def _units(field: Tensor) -> Tensor:
    """(2, 1, 1): units of ``grid_sample`` per pixel of x and of y."""
    height, width = field.shape[-2:]
    return field.new_tensor([2 / width, 2 / height])[:, None, None]


def _sampled(field: Tensor, points: Tensor, padding: str) -> Tensor:
    return functional.grid_sample(
        field, points.permute(0, 2, 3, 1), mode="bilinear", padding_mode=padding, align_corners=False
    )


def flow(velocity: Tensor) -> Tensor:
    """Displacement after a unit of time along a velocity that does not change with time: exp(v) - identity.

    A flow of a continuous velocity never folds, and one whose velocity has no part across the border of the image
    maps the image onto itself. By scaling and squaring (Arsigny et al., MICCAI 2006): a short step, by the midpoint
    rule, then composed with itself ``SQUARINGS`` times.

    Args:
        velocity: (n, 2, height, width) pixels per unit of time.

    Returns:
        (n, 2, height, width) in pixels, exactly 0 where the velocity is.
    """
    units = _units(velocity)
    pixels = _pixels((velocity.shape[-2], velocity.shape[-1]), velocity.device)
    parts = []
    for part in torch.split(velocity, _TOGETHER):
        step = part * (units / 2**SQUARINGS)
        field = _sampled(step, pixels + step / 2, "border")
        for _ in range(SQUARINGS):
            field = field + _sampled(field, pixels + field, "border")
        # Points at rest stay where they are; the sampler's rounding would leak a millionth of a pixel from beside them.
        parts.append(torch.where((part != 0).any(dim=1, keepdim=True), field / units, 0.0))
    return torch.cat(parts)


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """One displacement for two: a pixel v goes to v + outer(v), and from there on by ``inner``.

    Args:
        outer: (n, 2, height, width), the deformation applied last to the image.
        inner: The same shape, the deformation applied first.
    """
    pixels = _pixels((outer.shape[-2], outer.shape[-1]), outer.device)
    return outer + _sampled(inner, pixels + outer * _units(outer), "border")


def displaced(points: Tensor, field: Tensor) -> Tensor:
    """Where a displacement takes points that lie between pixels; beyond the border nothing moves.

    Args:
        points: (m, 2, rows, columns), x and y in the units of ``grid_sample`` without aligned corners.
        field: (n, 2, height, width) in pixels; n is m, or every row of points goes for n / m rows of it.

    Returns:
        (n, 2, rows, columns), in the units of ``points``; they themselves, bit for bit, where the field is 0.
    """
    points = points.repeat_interleave(len(field) // len(points), dim=0)
    return points + _sampled(field, points, "zeros") * _units(field)


def smallest_determinant(field: Tensor) -> Tensor:
    """(n,): smallest determinant of the Jacobian of v + field(v), by forward differences; at most 0 where it folds.

    Args:
        field: (n, 2, height, width) in pixels.
    """
    across = (field[:, :, :-1, 1:] - field[:, :, :-1, :-1]).unbind(1)
    down = (field[:, :, 1:, :-1] - field[:, :, :-1, :-1]).unbind(1)
    return ((1 + across[0]) * (1 + down[1]) - across[1] * down[0]).flatten(1).amin(dim=1)
