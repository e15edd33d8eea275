"""Which places of two views show the same part of a slice, from the views' matrices.

Points are (x, y) in pixels whose centres have whole coordinates; a view and its source have the same size. Matrices
are affine, source pixel → view pixel (``PretrainBatch.matrices``). Cells of a map are numbered row by row.

The matrices do not hold the elastic part of a view. Under the default pre-training augmentation a cell at stride 16
of a 192x192 view lies 0.14 of its side (root mean square) from where its matrix says; 95 % are off by less than 0.35
and none of 50 000 by more than 0.8 sides. Of the cell pairs nearer than 0.7 diagonals by the matrices, 9 of 10 are so
in truth, and all but 1 in 100 are nearer than one diagonal. That is left as it is: an error below one cell is below
what a cell can tell apart, and a field at the full size of the view would have to travel with every batch to mend it.
``tests/unit/objectives/test_correspondence.py`` repeats the measurement.
"""

from __future__ import annotations

import torch
from torch import Tensor


def to_view(matrices: Tensor, points: Tensor) -> Tensor:
    """Source points to view pixels.

    Args:
        matrices: (n, 3, 3) source → view.
        points: (n, p, 2) or (p, 2).

    Returns:
        (n, p, 2).
    """
    linear, shift = matrices[:, None, :2, :2], matrices[:, None, :2, 2]
    # Written out: as a matrix product it would be rounded under autocast.
    return (linear * points[..., None, :]).sum(dim=-1) + shift


def to_source(matrices: Tensor, points: Tensor) -> Tensor:
    """View pixels to source points; the inverse of :func:`to_view`."""
    (a, b), (c, d) = matrices[:, 0, :2].unbind(1), matrices[:, 1, :2].unbind(1)
    adjugate = torch.stack([torch.stack([d, -b], dim=1), torch.stack([-c, a], dim=1)], dim=1)
    inverse = adjugate / (a * d - b * c)[:, None, None]
    moved = points - matrices[:, None, :2, 2]
    return (inverse[:, None] * moved[..., None, :]).sum(dim=-1)


def cell_centres(matrices: Tensor, cells: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Source points at which the cells of a view's map are centred.

    Args:
        matrices: (n, 3, 3) of the views.
        cells: (rows, columns) of the map.
        size: (height, width) of the view, in pixels.

    Returns:
        (n, rows * columns, 2).
    """
    rows, columns = (
        (torch.arange(count, device=matrices.device, dtype=matrices.dtype) + 0.5) * (length / count) - 0.5
        for count, length in zip(cells, size, strict=True)
    )
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return to_source(matrices, torch.stack([x, y], dim=-1).flatten(0, 1))


def cell_diagonals(matrices: Tensor, cells: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Length of a cell's diagonal on the source, in source pixels: (n,).

    Where a matrix shears, a cell's two diagonals differ, and this is the root of their mean square.
    """
    height, width = size[0] / cells[0], size[1] / cells[1]
    origin = torch.zeros(1, 2, device=matrices.device, dtype=matrices.dtype)
    sides = origin.new_tensor([[width, 0.0], [0.0, height]])
    vectors = to_source(matrices, sides) - to_source(matrices, origin)
    return vectors.square().sum(dim=(1, 2)).sqrt()


def inside(points: Tensor, size: tuple[int, int]) -> Tensor:
    """Which points (..., 2) lie on an image of (height, width): (...) bool."""
    limit = points.new_tensor([size[1] - 0.5, size[0] - 0.5])
    return ((points >= -0.5) & (points < limit)).all(dim=-1)


def shown(matrices: Tensor, points: Tensor, size: tuple[int, int]) -> Tensor:
    """Which source points (n, p, 2) lie in the source and in the view: (n, p) bool."""
    return inside(points, size) & inside(to_view(matrices, points), size)


def cell_distances(first: Tensor, second: Tensor, cells: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Distances on the source between cells of two views, in diagonals of the larger cell (PixPro, section 3.1).

    Args:
        first: (n, 3, 3) matrices of the first views.
        second: (n, 3, 3) of the second.
        cells: (rows, columns) of either map.
        size: (height, width) of a view, in pixels.

    Returns:
        (n, cells of the first, cells of the second), at least 0.
    """
    centres = [cell_centres(matrices, cells, size) for matrices in (first, second)]
    # From differences: the usual shortcut by squares would lose the digits that the threshold needs.
    gaps = torch.linalg.vector_norm(centres[0][:, :, None] - centres[1][:, None], dim=-1)
    diagonals = [cell_diagonals(matrices, cells, size) for matrices in (first, second)]
    distances: Tensor = gaps / torch.maximum(*diagonals)[:, None, None]
    return distances


def matched_cells(
    first: Tensor, second: Tensor, cells: tuple[int, int], size: tuple[int, int], threshold: float
) -> Tensor:
    """Pairs of cells of two views that show the same place: nearer than ``threshold`` diagonals of the larger cell.

    Cells centred outside of the source show padding, which is no place; they are in no pair.

    Args:
        first: (n, 3, 3) matrices of the first views.
        second: (n, 3, 3) of the second.
        cells: (rows, columns) of either map.
        size: (height, width) of a view, in pixels.
        threshold: T, in diagonals.

    Returns:
        (n, cells of the first, cells of the second) bool.
    """
    near = cell_distances(first, second, cells, size) < threshold
    real = [inside(cell_centres(matrices, cells, size), size) for matrices in (first, second)]
    return near & real[0][:, :, None] & real[1][:, None]
