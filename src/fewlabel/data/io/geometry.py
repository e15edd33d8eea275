"""Where the voxels of a scan lie in the patient, and what sets two grids apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.errors import Fault
from fewlabel.core.printable import significant
from fewlabel.data.io.composite_paths import parse_composite
from fewlabel.data.io.dicom.address import parse_dicom


@dataclass(frozen=True)
class Geometry:
    """Where the voxels of a scan lie in the patient.

    Attributes:
        shape: Voxels along (z, y, x), the order of the array.
        spacing: Voxel size in mm along (z, y, x).
        origin: Centre of the first voxel in mm, patient axes (left, posterior, superior).
        direction: Row-major 3x3 matrix; column j is the unit vector of file axis j (x, y, z) in patient axes.
        components: Channels stored in the file: time points times values per voxel.
        frames: Time points, along the fourth axis of the file.
        exact: Where the axes of the file are sheared: the 3x3 matrix, row-major, of their steps in mm, and the place of
            its first voxel; ``origin`` and ``direction`` are then those of the nearest grid at right angles.
        notes: What is unusual about the file and does no harm.
        blank: Channels, by number from 0, without a single finite value.
        spacing_known: Whether the file says how large its voxels are; where not, ``spacing`` is that of its tags for
            printing, or 1.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]
    components: int = 1
    frames: int = 1
    exact: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    blank: tuple[int, ...] = ()
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
        """The eight corner voxels (8, 3) in mm, patient axes, as the file has them."""
        steps, origin = self.axes() * np.asarray(self.spacing)[:, None], np.asarray(self.origin)
        if self.exact:
            steps, origin = np.asarray(self.exact[:9]).reshape(3, 3).T[::-1], np.asarray(self.exact[9:])
        index = np.stack(np.meshgrid(*[(0, n - 1) for n in self.shape], indexing="ij"), -1).reshape(8, 3)
        corners: NDArray[np.float64] = origin + index @ steps
        return corners


@dataclass(frozen=True)
class Volume:
    """A scan in memory: ``array`` is (channels, z, y, x) float32 in raw intensities."""

    array: NDArray[np.float32]
    geometry: Geometry
    paths: tuple[Path, ...]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along (z, y, x)."""
        return self.geometry.spacing


def grid_faults(
    image: Path, wanted: Geometry, other: Path, other_grid: Geometry, *, accept_origin: bool = False
) -> list[Fault]:
    """What sets the grid of ``other`` apart from that of ``image``: shape, spacing, or place in the patient.

    Args:
        image: The scan.
        wanted: Its geometry.
        other: What is to lie on its grid.
        other_grid: Its geometry.
        accept_origin: Whether it may lie elsewhere, if all else agrees.
    """
    where, name = shown(other), shown(image)
    if other_grid.shape != wanted.shape:
        problem = f"has shape {other_grid.shape}, but {name} has {wanted.shape} (z, y, x)"
        turned = any("EXIF" in note for note in (*other_grid.notes, *wanted.notes))
        if turned and sorted(other_grid.shape) == sorted(wanted.shape):
            remedy = "One of the two is turned by its EXIF tag: store both upright and without it"
        else:
            remedy = "Export both from the same series"
        return [Fault(problem, where, remedy)]
    both_known = other_grid.spacing_known and wanted.spacing_known
    if both_known and not np.allclose(other_grid.spacing, wanted.spacing, rtol=1e-3, atol=1e-4):
        problem = f"has spacing {_mm(other_grid.spacing)} mm, but {name} has {_mm(wanted.spacing)} mm (z, y, x)"
        return [Fault(problem, where, "Correct the header that is wrong")]
    apart = float(np.linalg.norm(other_grid.corners() - wanted.corners(), axis=1).max())
    if not both_known or apart <= 0.5 * min(wanted.spacing):
        return []
    elsewhere = origin_alone(wanted, other_grid)
    if elsewhere and accept_origin:
        return []
    if elsewhere:
        mine, its = other_grid.corners()[0], wanted.corners()[0]
        problem = (
            f"has its origin at {_mm(mine)} mm, but {name} has it at {_mm(its)} mm (left, posterior, superior), "
            f"{significant(apart)} mm apart; all else agrees"
        )
        remedy = "Correct the header that is wrong; if the voxels match as they are, give accept_origin=true"
        return [Fault(problem, where, remedy)]
    problem = f"does not lie where {name} lies: their corners are up to {significant(apart)} mm apart"
    return [Fault(problem, where, "Correct origin and direction in the header")]


def origin_alone(wanted: Geometry, other_grid: Geometry) -> bool:
    """Whether two grids of one shape differ in their origin alone, by more than half a voxel."""
    if other_grid.shape != wanted.shape:
        return False
    mine, its = other_grid.corners(), wanted.corners()
    same = np.linalg.norm((mine - mine[0]) - (its - its[0]), axis=1).max() <= 0.5 * min(wanted.spacing)
    return bool(same and np.linalg.norm(mine[0] - its[0]) > 0.5 * min(wanted.spacing))


def shown(path: Path) -> str:
    """A path of a catalog as a person reads it."""
    return str(parse_dicom(path) or parse_composite(path) or path)


def _mm(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"
