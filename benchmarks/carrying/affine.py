"""The affine map that the slices of two scans share: from their poses, by a search on a grid, and by climbing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from carrying.likeness import Likeness, gaussian, lattice, sampled


@dataclass(frozen=True)
class Place:
    """How a scan lies: centre (x, y) in pixels, magnification, turn in radians or None if it is not clear."""

    centre: tuple[float, float]
    size: float
    turn: float | None


def similarity(target: Place, source: Place) -> tuple[Tensor, Tensor]:
    """Matrix and source centre of the map between two poses; a turn that is not clear counts as 0."""
    angle = (source.turn or 0.0) - (target.turn or 0.0)
    cosine, sine = np.cos(angle), np.sin(angle)
    matrix = torch.tensor([[cosine, -sine], [sine, cosine]]) * (source.size / target.size)
    return matrix.float(), torch.tensor(source.centre).float()


def search(
    targets: list[tuple[Tensor, Tensor, Tensor, Tensor]],
    centre: Tensor,
    reach: float = 20.0,
    sizes: tuple[float, ...] = (1.0,),
) -> tuple[float, float, Tensor]:
    """The turn, size and shift of a source scan that fit several targets best, on a coarse grid of all that there are.

    Args:
        targets: Of each target slices (n, 1, height, width), the source's beside them, the target's middle (2,), and
            the matrix (2, 2) to it from a source that is not turned.
        centre: (2,) in the source to shift from.
        reach: Largest shift in x and in y, in pixels.
        sizes: Magnifications to try.

    Returns:
        Radians and magnification to put onto the matrices, and the source's centre.
    """
    turns, shifts = torch.arange(12) * (np.pi / 6), torch.linspace(-reach, reach, 5)
    grid = torch.cartesian_prod(turns, torch.tensor(sizes).log(), shifts, shifts)
    state = torch.zeros(len(grid), 6)
    state[:, :2], state[:, 4:] = grid[:, :2], grid[:, 2:]
    places, total = lattice(torch.zeros(2), 4), torch.zeros(len(state))
    for fixed, moving, middle, matrix in targets:
        like = Likeness(sampled(gaussian(fixed, 3.0), (places + middle).expand(len(fixed), -1, -1, -1)))
        total += _climb(like, gaussian(moving, 3.0), places, state, matrix, centre, 0)[1]
    best = state[total.argmax()]
    return float(best[0]), float(best[1].exp()), centre + best[4:]


def affine(
    fixed: Tensor, moving: Tensor, middle: Tensor, matrix: Tensor, centre: Tensor, turns: tuple[float, ...]
) -> tuple[Tensor, Tensor, float]:
    """The affine map that all slices of a volume share, from the best of several turns and sizes of a similarity.

    Args:
        fixed: (n, 1, height, width) some slices of the target.
        moving: The same of the source, one to each.
        middle: (2,) place in the target that the similarity takes to ``centre``.
        matrix: (2, 2) of the similarity.
        centre: (2,) in the source.
        turns: Radians to begin with.

    Returns:
        Matrix, source centre and likeness.
    """
    starts = torch.cartesian_prod(torch.tensor(turns), torch.tensor([-0.25, 0.0, 0.25]))
    state = functional.pad(starts, (0, 4))
    for step, sigma, window, rounds, keep in ((4, 3.0, 5, 20, 2), (2, 1.5, 5, 25, 1)):
        places = lattice(torch.zeros(2), step)
        like = Likeness(sampled(gaussian(fixed, sigma), (places + middle).expand(len(fixed), -1, -1, -1)), window)
        moved = gaussian(moving, sigma)
        state, scores = _climb(like, moved, places, state, matrix, centre, rounds)
        state = state[scores.argsort(descending=True)[:keep]]
    matrices, centres = _maps(state, matrix, centre)
    return matrices[0], centres[0], float(scores.max())


#: What a unit of the optimiser is: radians, logarithm of scale, two of shape, two pixels.
_UNITS = torch.tensor([0.05, 0.03, 0.02, 0.02, 1.0, 1.0])
_STIFF = torch.tensor([0.0, 0.3, 1.0, 1.0, 0.0001, 0.0001])


def _maps(state: Tensor, matrix: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    cosine, sine = torch.cos(state[:, 0]), torch.sin(state[:, 0])
    turn = torch.stack([cosine, -sine, sine, cosine], dim=1).view(-1, 2, 2)
    shape = torch.stack([1 + state[:, 2], state[:, 3], state[:, 3], 1 - state[:, 2]], dim=1).view(-1, 2, 2)
    return torch.exp(state[:, 1])[:, None, None] * (turn @ shape) @ matrix, centre + state[:, 4:]


def _climb(
    like: Likeness, moving: Tensor, places: Tensor, state: Tensor, matrix: Tensor, centre: Tensor, rounds: int
) -> tuple[Tensor, Tensor]:
    count, slices = len(state), len(moving)
    moving, rows = moving.repeat(count, 1, 1, 1), torch.arange(slices).repeat(count)
    free = (state / _UNITS).requires_grad_()
    optimiser = torch.optim.Adam([free], lr=1.0)

    def scored() -> Tensor:
        matrices, centres = _maps(free * _UNITS, matrix, centre)
        at = torch.einsum("kij,hwj->khwi", matrices, places) + centres[:, None, None]
        return like(sampled(moving, at.repeat_interleave(slices, dim=0)), rows).view(count, slices).mean(dim=1)

    for done in range(rounds):
        optimiser.param_groups[0]["lr"] = 1.0 if done < rounds // 2 else 0.3
        loss = (((free * _UNITS) ** 2 * _STIFF).sum(dim=1) - scored()).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        return (free * _UNITS).detach(), scored()
