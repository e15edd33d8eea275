"""Structures of DICOM segmentations and structure sets as one mask on the grid of their volume."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.errors import DataError, Fault
from fewlabel.data.io.dicom.address import DicomMask
from fewlabel.data.io.dicom.data_set_index import Archive, open_archive
from fewlabel.data.io.dicom.segmentation import SegmentationFile
from fewlabel.data.io.dicom.slice_grid import SliceGrid
from fewlabel.data.io.dicom.structure_headers import StructureObject, owner_of
from fewlabel.data.io.dicom.structure_set import StructureSetFile
from fewlabel.data.io.dicom.undrawn_structures import Problems
from fewlabel.data.io.integer_types import integer_type
from fewlabel.data.io.shear import straighten
from fewlabel.data.voxel_counts import counts_of

#: Share of a structure's voxels that later ones may take without anybody having said which come later.
_MOST_TAKEN = 0.5


def read_dicom_mask(mask: DicomMask, notes: list[str]) -> NDArray[np.integer[Any]]:
    """The structures of a mask as whole numbers (z, y, x), on the grid of its volume.

    Args:
        mask: What to read.
        notes: Takes voxels in which structures overlap: the later one has them; and what does no harm.

    Raises:
        DataError: If a file cannot be read, a contour or frame does not lie on a slice of the volume, or, where nobody
            has given an order, a structure loses most of its voxels to later ones.
    """
    archive = open_archive(mask.root)
    series = archive.series(mask.scan)
    geometry = series.geometry
    grid = SliceGrid.of(series.planes)
    files: list[tuple[dict[str, int], SegmentationFile | StructureSetFile]] = []
    for name in mask.objects:
        held = archive.held(name)
        file = _open(held, f"{held.kind} {name}")
        files.append(({each.name.casefold(): each.number for each in held.structures}, file))
    notes.extend(
        f"{file.where} holds shares of voxels: from one half on, a voxel counts as inside"
        for _, file in files
        if isinstance(file, SegmentationFile) and file.type == "FRACTIONAL"
    )
    joined = np.zeros(series.shape, dtype=np.int16 if len(mask.values) < 1 << 15 else np.int32)
    sizes: list[int] = []
    faults: list[Fault] = []
    for place, (name, _) in enumerate(mask.values, start=1):
        inside = np.zeros(series.shape, dtype=np.bool_)
        for numbers, file in files:
            if (number := numbers.get(name.casefold())) is not None:
                problems = Problems(name, file.where)
                file.draw(number, grid, inside, problems)
                faults.extend(problems.faults)
                notes.extend(problems.notes)
        taken = joined[inside]
        for before in np.unique(taken[taken != 0]).tolist():
            other = mask.values[before - 1][0]
            notes.append(f"{int((taken == before).sum())} voxels lie in {other} and in {name}: the latter has them")
        sizes.append(int(inside.sum()))
        # The place in the order, until all are drawn: two structures may share a value.
        joined[inside] = place
    if not mask.ordered:
        faults.extend(_taken_faults(mask, joined, sizes, archive))
    if faults:
        raise DataError("A mask cannot be used:", faults)
    classes = [0, *(value for _, value in mask.values)]
    values = np.array(classes, dtype=integer_type(classes))
    return straighten(values[joined], geometry, mask=True)


def _open(held: StructureObject, where: str) -> SegmentationFile | StructureSetFile:
    return (SegmentationFile if held.kind == "segmentation" else StructureSetFile)(held.file, where)


def _taken_faults(
    mask: DicomMask, joined: NDArray[np.integer[Any]], sizes: Sequence[int], archive: Archive
) -> list[Fault]:
    """Structures that others cover, as the outline of the body does an organ: somebody has to say which has a voxel."""
    left = counts_of(joined, len(sizes) + 1)[1:]
    covered = [
        mask.values[place][0]
        for place, size in enumerate(sizes)
        if size and size - int(left[place]) > _MOST_TAKEN * size
    ]
    if not covered:
        return []
    # All of the data set: what the setting does not name is left out, of other scans, too.
    volumes = {name: _usual_volume(archive, name) for name, _ in mask.values}
    names = ",".join(sorted(volumes, key=lambda name: -volumes[name]))
    problem = f"most voxels of {', '.join(covered)} lie in other structures too, and a voxel has one class"
    remedy = (
        f"Say which structures count, later ones having the voxels that they share: "
        f"'reader.name=dicom reader.structures=[{names}]' for example, from the largest to the smallest"
    )
    return [Fault(problem, str(mask), remedy)]


@lru_cache(maxsize=256)
def _usual_volume(archive: Archive, name: str) -> float:
    """Volume in mm³ of a structure in the first scan that has it; 0 where it cannot be drawn."""
    for held in archive.objects.values():
        numbers = [each.number for each in held.structures if each.name.casefold() == name.casefold()]
        scan, _ = owner_of(held, archive.scans)
        if not numbers or not scan or archive.scans[scan].faults:
            continue
        series = archive.scans[scan]
        inside = np.zeros(series.shape, dtype=np.bool_)
        try:
            _open(held, "").draw(numbers[0], SliceGrid.of(series.planes), inside, Problems(name, ""))
        except DataError:
            continue
        if inside.any():
            return float(inside.sum() * np.prod(series.geometry.spacing))
    return 0.0
