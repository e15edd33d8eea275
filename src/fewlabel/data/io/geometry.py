"""Where the voxels of a scan lie in the patient, and what sets two grids apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.errors import Fault


@dataclass(frozen=True)
class Geometry:
    """Where the voxels of a scan lie in the patient.

    Attributes:
        shape: Voxels along (z, y, x), the order of the array.
        spacing: Voxel size in mm along (z, y, x).
        origin: Centre of the first voxel in mm, patient axes (left, posterior, superior).
        direction: Row-major 3x3 matrix; column j is the unit vector of file axis j (x, y, z) in patient axes.
        components: Channels stored in the file.
        spacing_known: Whether the file says how large its voxels are; where not, ``spacing`` is that of its tags for
            printing, or 1.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]
    components: int = 1
    spacing_known: bool = True

    def sized(self, voxel_size: Sequence[float] | None, *, known: bool) -> Geometry:
        """The same, with voxels of this size (z, y, x) in mm where the file does not say; ``known`` if it is true.

        Without a size its tags count as the truth, as they did before anybody asked.
        """
        if self.spacing_known or voxel_size is None:
            return self if self.spacing_known else replace(self, spacing_known=True)
        z, y, x = map(float, voxel_size)
        return replace(self, spacing=(z, y, x), spacing_known=known)

    def axes(self) -> NDArray[np.float64]:
        """Unit vectors (3, 3) of the array axes z, y, x, one per row, in patient axes."""
        return np.asarray(self.direction, dtype=np.float64).reshape(3, 3).T[::-1].copy()

    def corners(self) -> NDArray[np.float64]:
        """The eight corner voxels (8, 3) in mm, patient axes."""
        steps = self.axes() * np.asarray(self.spacing)[:, None]
        index = np.stack(np.meshgrid(*[(0, n - 1) for n in self.shape], indexing="ij"), -1).reshape(8, 3)
        corners: NDArray[np.float64] = np.asarray(self.origin) + index @ steps
        return corners


def grid_faults(image: Path, wanted: Geometry, other: Path, found: Geometry) -> list[Fault]:
    """What sets the grid of ``other`` apart from that of ``image``: shape, spacing, or place in the patient."""
    where = str(other)
    if found.shape != wanted.shape:
        problem = f"has shape {found.shape}, but {image} has {wanted.shape} (z, y, x)"
        return [Fault(problem, where, "Export both from the same series")]
    if not (found.spacing_known and wanted.spacing_known):
        return []
    if not np.allclose(found.spacing, wanted.spacing, rtol=1e-3, atol=1e-4):
        problem = f"has spacing {_mm(found.spacing)} mm, but {image} has {_mm(wanted.spacing)} mm (z, y, x)"
        return [Fault(problem, where, "Correct the header that is wrong")]
    apart = float(np.linalg.norm(found.corners() - wanted.corners(), axis=1).max())
    if apart > 0.5 * min(wanted.spacing):
        problem = f"does not lie where {image} lies: their corners are up to {apart:.3g} mm apart"
        return [Fault(problem, where, "Correct origin and direction in the header")]
    return []


def _mm(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"
