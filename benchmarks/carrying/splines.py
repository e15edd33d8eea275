"""Displacements by cubic B-splines that make each pair of slices alike, and whether they fold or lead back."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from carrying.likeness import SIDE, Likeness, gaussian, sampled


def splines(side: int, spacing: float) -> Tensor:
    """(side, knots): cubic B-splines, ``spacing`` steps apart, at every step."""
    at = torch.arange(float(side))[:, None] / spacing
    distance = (at - torch.arange(-1.0, np.ceil(side / spacing) + 2)).abs()
    near = 2 / 3 - distance**2 + distance**3 / 2
    return torch.where(distance < 1, near, (2 - distance).clamp_min(0) ** 3 / 6)


def deform(fixed: Tensor, moving: Tensor, places: Tensor, start: Tensor, smooth: float = 2.0) -> tuple[Tensor, Tensor]:
    """Displacements of source places that make slices most alike, each pair for itself.

    Args:
        fixed: (n, 1, height, width) targets.
        moving: The same shape, their sources.
        places: (SIDE, SIDE, 2) in the targets.
        start: (SIDE, SIDE, 2) where the affine map takes them.
        smooth: Weight of the mean squared gradient of the displacement.

    Returns:
        (n, SIDE, SIDE, 2) displacements in pixels and (n,) likeness.
    """
    total = torch.zeros(len(fixed), *start.shape)
    for spacing, rounds, sigma in ((11.0, 15, 2.0), (5.5, 30, 1.0)):
        basis = splines(SIDE, spacing)
        knots = torch.zeros(len(fixed), 2, basis.shape[1], basis.shape[1], requires_grad=True)
        optimiser = torch.optim.Adam([knots], lr=1.0)
        like = Likeness(sampled(gaussian(fixed, sigma), places.expand(len(fixed), -1, -1, -1)))
        moved = gaussian(moving, sigma)
        for done in range(rounds):
            optimiser.param_groups[0]["lr"] = 1.0 if done < 0.7 * rounds else 0.3
            step = (basis @ knots @ basis.T).permute(0, 2, 3, 1)
            scores = like(sampled(moved, start + total + step))
            bends = [(step.diff(dim=axis) / 2).square().sum(dim=-1).mean(dim=(1, 2)) for axis in (1, 2)]
            loss = (smooth * (bends[0] + bends[1]) - scores).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        total = total + (basis @ knots @ basis.T).permute(0, 2, 3, 1).detach()
    with torch.no_grad():
        return total, like(sampled(moved, start + total))


def smallest_determinant(places: Tensor) -> Tensor:
    """(n,) smallest determinant of the Jacobian of (n, SIDE, SIDE, 2) places within 51 mm of the middle."""
    across, down = places.diff(dim=2)[:, :-1] / 2, places.diff(dim=1)[:, :, :-1] / 2
    values = across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0]
    at = torch.arange(SIDE - 1.0) - (SIDE - 2) / 2
    return values[:, at[:, None] ** 2 + at**2 < 17**2].amin(dim=1)


def finer(values: Tensor) -> Tensor:
    """(n, SIDE, SIDE, 2) at twice the resolution, on the lattice of step 1."""
    grown = functional.interpolate(values.permute(0, 3, 1, 2), scale_factor=2.0, mode="bicubic", align_corners=False)
    return grown.permute(0, 2, 3, 1)


def back_error(there: Tensor, back: Tensor) -> Tensor:
    """(n,) pixels between a place and where it comes back to, there and back again, the middle counting most.

    Args:
        there: (n, SIDE, SIDE, 2) places in the source, from its middle, of the lattice of the target.
        back: The same in the target, from its middle, of the lattice of the source.
    """
    again = functional.grid_sample(back.permute(0, 3, 1, 2), there / SIDE, padding_mode="border", align_corners=False)
    at = torch.arange(float(SIDE)) - (SIDE - 1) / 2
    y, x = torch.meshgrid(2 * at, 2 * at, indexing="ij")
    weight = torch.exp(-(x**2 + y**2) / (2 * 18.0**2))
    error = (again.permute(0, 2, 3, 1) - torch.stack([x, y], dim=-1)).norm(dim=-1)
    return (error * weight).sum(dim=(1, 2)) / weight.sum()
