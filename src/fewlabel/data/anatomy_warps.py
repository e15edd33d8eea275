"""Other anatomies of a labelled slice: its structures larger or smaller, thicker or thinner walled, and elsewhere.

An affine or elastic change moves all that a slice shows alike. Here every structure of the mask moves by itself: its
surface, the wall about its cavity, its place. A velocity is drawn about each surface from the signed distance to it
(``fewlabel.data.anatomy_warp_velocities``), and the slice follows the flow (``fewlabel.data.diffeomorphic_flow``), so
that nothing folds and nothing leaves the image, however far the surfaces move. A structure has right of way over those
that are smaller in its volume: their movements end at it, while they give way to its own.

The displacement is that of the stored slice, before any other geometry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from fewlabel.core.settings.base import Settings, setting
from fewlabel.data.anatomy_warp_velocities import (
    LEAST_REACH,
    border_window,
    shifted,
    smooth_step,
    swelling,
    swollen,
    thickened,
)
from fewlabel.data.diffeomorphic_flow import compose, flow, smallest_determinant
from fewlabel.data.structure_distances import Body, Wall

#: Bodies of a class that are drawn apart; further ones share the draws of these.
SLOTS = 4
#: Rounds of halving in search of the largest part of a movement that does not fold.
ROUNDS = 4

_TRIED = "own choice"


class AnatomyConfig(Settings):
    """How labelled structures change from view to view; a limit of 0 switches a part off."""

    probability: float = setting(
        0.0,
        "probability that the structures of a labelled slice are moved and resized, each on its own",
        ge=0,
        le=1,
        source=f"off; in fine-tuning 0.67, {_TRIED}",
    )
    size: float = setting(
        0.5,
        "largest logarithm of the factor on a structure's half-width: the radius of a disc, half the width of a tube",
        ge=0,
        le=1,
        source=_TRIED,
    )
    wall: float = setting(
        0.6,
        "largest logarithm of the factor on the thickness of a wall, which is a class that encloses another",
        ge=0,
        le=1,
        source=_TRIED,
    )
    shift: float = setting(
        4.0, "largest shift of a structure in x and in y", unit="pixels", ge=0, le=16, source="own choice"
    )
    reach: float = setting(
        1.5,
        "how far around a structure its surroundings give way, on average; drawn from 0.5 to 1.5 times this",
        unit="half-widths of the structure",
        ge=0.1,
        le=10,
        source=_TRIED,
    )


@dataclass(frozen=True)
class SliceAnatomy:
    """The structures of a slice, largest in the volume first, and its walls."""

    bodies: tuple[Body, ...]
    walls: tuple[Wall, ...]


@dataclass(frozen=True)
class AnatomyDraws:
    """What was drawn for n rows, on the CPU, float32.

    Attributes:
        applied: (n,) bool, whether the row changes at all.
        size: (n, classes, slots) logarithm of the factor on the size of a body, by its outermost class and its number.
        reach: (n, classes, slots) in half-widths of the body.
        shift: (n, classes, slots, 2) of x and y in pixels.
        wall: (n, classes) logarithm of the factor on the thickness of the wall about a class.
    """

    applied: Tensor
    size: Tensor
    reach: Tensor
    shift: Tensor
    wall: Tensor

    def __getitem__(self, rows: slice | Tensor) -> AnatomyDraws:
        return AnatomyDraws(self.applied[rows], self.size[rows], self.reach[rows], self.shift[rows], self.wall[rows])


def draw_anatomies(config: AnatomyConfig, count: int, classes: int, generator: Generator) -> AnatomyDraws:
    """Draw the anatomies of ``count`` rows of the joined batch.

    Args:
        config: What to draw.
        count: Rows.
        classes: Classes with background.
        generator: CPU generator.
    """
    applied = torch.rand(count, generator=generator, dtype=torch.float64) < config.probability
    bodies = torch.rand(count, classes, SLOTS, 4, generator=generator)
    walls = torch.rand(count, classes, generator=generator)
    return AnatomyDraws(
        applied=applied,
        size=(2 * bodies[..., 0] - 1) * config.size,
        reach=(0.5 + bodies[..., 1]) * config.reach,
        shift=(2 * bodies[..., 2:] - 1) * config.shift,
        wall=(2 * walls - 1) * config.wall,
    )


def anatomy_displacements(
    slices: Sequence[SliceAnatomy], draws: AnatomyDraws, size: tuple[int, int], device: torch.device
) -> Tensor | None:
    """Displacement of stored slices for what was drawn.

    The walls move first, within outer surfaces that they leave where they are; so the distances that were measured
    once hold for both. A row that would fold in spite of all takes the largest part of its movement that does not.

    Args:
        slices: n slices.
        draws: A row for each.
        size: (height, width).
        device: Where to compute it.

    Returns:
        (n, 2, height, width) float32 in pixels, backwards, 0 for rows that do not change; None if none does.
    """
    rows = [row for row in range(len(slices)) if bool(draws.applied[row]) and slices[row].bodies]
    if not rows:
        return None
    velocities = [_velocities(slices[row], draws, row, device) for row in rows]
    still = torch.zeros(2, *size, device=device)
    levels = max(map(len, velocities))
    layers = torch.stack([torch.stack([*one, *[still] * (levels - len(one))]) for one in velocities], dim=1)
    moved = _flowed(layers)
    folded = smallest_determinant(moved) <= 0
    if bool(folded.any()):
        moved[folded] = _largest(layers[:, folded])
    field = still.new_zeros(len(slices), 2, *size)
    field[rows] = moved
    return field


def _velocities(anatomy: SliceAnatomy, draws: AnatomyDraws, row: int, device: torch.device) -> list[Tensor]:
    """Velocities (2, height, width), forwards: of the outer surfaces, then of the walls of each level."""
    outer = torch.zeros(anatomy.bodies[0].surface.normal.shape, device=device)
    window = border_window((outer.shape[-2], outer.shape[-1]), device)
    ahead: list[tuple[Tensor, float]] = []
    for body in anatomy.bodies:
        place = (row, body.root, body.number % SLOTS)
        share, shift = swelling(body.surface, float(draws.size[place])), draws.shift[place]
        reach, depth, far = float(draws.reach[place]), body.surface.depth, float(shift.norm())
        swept = max(share, 0.0) * depth + far
        own = swollen(body.surface, share, reach, device)
        own += shifted(body.surface, shift, swept, max(reach * depth, 2 * far, LEAST_REACH), device)
        for distance, taken in ahead:
            own *= smooth_step((distance - taken) / max(abs(share) * depth + far, LEAST_REACH))
        ahead.append((body.surface.distance.to(device).float(), swept))
        outer += own
    layers = [outer * window]
    for wall in anatomy.walls:
        while len(layers) <= wall.level:
            layers.append(torch.zeros_like(outer))
        layers[wall.level] += thickened(wall, float(draws.wall[row, wall.label]), device) * window
    return layers


def _flowed(layers: Tensor) -> Tensor:
    """One backward displacement (n, 2, height, width) of velocities (levels, n, 2, height, width), outermost first."""
    fields = torch.zeros_like(layers)
    moving = layers.flatten(2).any(dim=2)
    fields[moving] = flow(-layers[moving])
    total = fields[0]
    for inner in fields[1:]:
        total = compose(total, inner)
    return total


def _largest(layers: Tensor) -> Tensor:
    """The displacement of the largest part of each row's movement that does not fold, to 1 / 2**ROUNDS."""
    low, high = (layers.new_full((layers.shape[1],), part) for part in (0.0, 1.0))
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        fits = smallest_determinant(_flowed(layers * middle[:, None, None, None])) > 0
        low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
    return _flowed(layers * low[:, None, None, None])
