"""Matrices of views, and points of a grid's regions by a loop."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def affine(
    size: tuple[int, int],
    angle: float = 0.0,
    zoom: float = 1.0,
    flip: int = 1,
    shift: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    """Source → view (3, 3), float64: a flip (-1), a turn and a magnification about the centre, then a shift (x, y)."""
    centre = torch.tensor([(size[1] - 1) / 2, (size[0] - 1) / 2], dtype=torch.float64)
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    matrix = torch.eye(3, dtype=torch.float64)
    matrix[:2, :2] = zoom * turn * torch.tensor([flip, 1], dtype=torch.float64)
    matrix[:2, 2] = centre - matrix[:2, :2] @ centre + torch.tensor(shift, dtype=torch.float64)
    return matrix


def on_image(x: float, y: float, size: tuple[int, int]) -> bool:
    """Whether a pixel place lies on an image of (height, width)."""
    return -0.5 <= x < size[1] - 0.5 and -0.5 <= y < size[0] - 0.5


def slow_points(
    matrices: tuple[Tensor, Tensor],
    size: tuple[int, int],
    generator: torch.Generator,
    *,
    grid: int,
    drawn: int,
    kept: int,
) -> list[list[list[tuple[int, float | None, float | None]]]]:
    """For each view and slice the kept points as (region, x, y); x and y are None where the view shows too few."""
    uniform = torch.rand(2, len(matrices[0]), grid * grid, drawn, 2, generator=generator)
    views = []
    for numbers, of_view in zip(uniform, matrices, strict=True):
        view = []
        for n, matrix in enumerate(of_view):
            found: list[tuple[int, float | None, float | None]] = []
            for region in range(grid * grid):
                seen: list[tuple[int, float | None, float | None]] = []
                for u, v in numbers[n, region]:
                    # In float32, as they are drawn: tests of losses go on in float64 from the same places.
                    x = (region % grid + u) * (size[1] / grid) - 0.5
                    y = (region // grid + v) * (size[0] / grid) - 0.5
                    place = (matrix @ torch.stack([x, y, torch.ones(())]).to(matrix))[:2].tolist()
                    if on_image(*place, size):
                        seen.append((region, *place))
                found += (seen + [(region, None, None)] * kept)[:kept]
            view.append(found)
        views.append(view)
    return views
