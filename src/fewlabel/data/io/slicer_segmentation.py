"""Segmentations by 3D Slicer (``.seg.nrrd``): names and colours of segments, layers that overlap, cropped extents."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813  # the name its own manual uses
from numpy.typing import NDArray

from fewlabel.core.errors import DataError, Fault
from fewlabel.data.io.composite_paths import Colour
from fewlabel.data.io.file_names import is_segmentation
from fewlabel.data.io.geometry import Geometry, grid_faults
from fewlabel.data.io.integer_types import integer_type, integers
from fewlabel.data.io.itk_image import geometry_in, read_header, read_image
from fewlabel.data.io.nrrd_header import read_nrrd_header
from fewlabel.data.io.shear import straighten

_KEY = re.compile(r"Segment(\d+)_(\w+)$")
#: How far from whole voxels the corner of a cropped extent may lie, in voxels.
_OFF = 0.05


@dataclass(frozen=True)
class Segment:
    """One structure of a segmentation.

    Attributes:
        name: As it is shown in Slicer.
        value: In the mask as it is read here: that of the file, or a number of its own where layers share values.
        stored: Its value in the file.
        layer: Number of the layer that it lies in, from 0.
        colour: (red, green, blue), 0 to 255.
    """

    name: str
    value: int
    stored: int
    layer: int
    colour: Colour


def read_segments(path: Path) -> tuple[Segment, ...]:
    """The segments of a file, in its order; none if it does not say.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        header = read_nrrd_header(path)
    except OSError as error:
        raise DataError("A file cannot be read:", [Fault(f"cannot be read ({error.strerror})", str(path))]) from error
    facts_of: dict[int, dict[str, str]] = {}
    for key, value in ({} if header is None else header.keys).items():
        match = _KEY.match(key)
        if match:
            facts_of.setdefault(int(match[1]), {})[match[2]] = value
    entries = [
        (facts.get("Name") or facts.get("ID") or f"segment {number + 1}", _whole(facts.get("LabelValue"), number + 1),
         _whole(facts.get("Layer"), 0), _colour(facts.get("Color", "")))
        for number, facts in sorted(facts_of.items())
    ]  # fmt: skip
    shared = len({value for _, value, _, _ in entries}) < len(entries)
    return tuple(
        Segment(name, number if shared else value, value, layer, colour)
        for number, (name, value, layer, colour) in enumerate(entries, start=1)
    )


def segment_names(path: Path) -> dict[int, str]:
    """Value in the mask, as it is read, → name of the segment; empty where the file names none.

    Raises:
        DataError: If it cannot be read.
    """
    return {segment.value: segment.name for segment in read_segments(path)} if is_segmentation(path) else {}


def read_segmentation(
    path: Path, notes: list[str], grid: Geometry | None = None, values: Mapping[str, int] | None = None
) -> NDArray[np.integer[Any]]:
    """A segmentation as a mask (z, y, x).

    Args:
        path: The file.
        notes: Takes voxels in which segments overlap: the later one has them.
        grid: Of the scan; a cropped extent is put into its place there.
        values: Name of a segment → its value, where a data set numbers its files differently; other segments are a
            fault.

    Raises:
        DataError: If it cannot be read, or holds values of no segment.
    """
    image = read_image(path)
    geometry = geometry_in(path, image)
    array = np.asarray(sitk.GetArrayViewFromImage(image))
    if image.GetNumberOfComponentsPerPixel() > 1:
        layers = np.moveaxis(array, -1, 0)
    else:
        layers = array if array.ndim == 4 else array[None]
    segments = read_segments(path)
    if segments and (layers.shape[0] > 1 or values is not None or any(s.value != s.stored for s in segments)):
        mask = _joined(path, layers, segments, notes, values)
    elif layers.shape[0] > 1:
        fault = Fault(f"has {layers.shape[0]} layers, and does not say which segments lie in them", str(path))
        raise DataError("A mask cannot be used:", [fault])
    else:
        mask = integers(layers[0])
        if mask.ndim == 2:
            mask = mask[None]
    mask = straighten(mask, geometry, mask=True)
    return mask if grid is None or geometry.shape == grid.shape else _pasted(path, mask, geometry, grid, notes)


def segmentation_faults(image: Path, wanted: Geometry, path: Path, *, accept_origin: bool = False) -> list[Fault]:
    """As :func:`fewlabel.data.io.geometry.grid_faults`; a cropped extent on the scan's voxels is no fault.

    Raises:
        DataError: If it cannot be read.
    """
    own = read_header(path)
    if own.shape != wanted.shape and _place(own, wanted) is not None:
        return []
    return grid_faults(image, wanted, path, own, accept_origin=accept_origin)


def _joined(
    path: Path,
    layers: NDArray[Any],
    segments: tuple[Segment, ...],
    notes: list[str],
    values: Mapping[str, int] | None,
) -> NDArray[np.integer[Any]]:
    """All layers as one mask; a segment that comes later in the file has the voxels that it shares."""
    strange = [segment.name for segment in segments if values is not None and segment.name not in values]
    lost = [segment.name for segment in segments if segment.layer >= len(layers)]
    if strange or lost:
        names = ", ".join(strange or lost)
        why = "stand for no class" if strange else f"lie in layers that it does not have: it has {len(layers)}"
        raise DataError("A mask cannot be used:", [Fault(f"its segments {names} {why}", str(path))])
    numbers = [segment.value if values is None else values[segment.name] for segment in segments]
    joined = np.zeros(layers.shape[1:], dtype=integer_type(numbers))
    owner = np.zeros(layers.shape[1:], dtype=np.int32)
    for number, (segment, value) in enumerate(zip(segments, numbers, strict=True), start=1):
        inside = layers[segment.layer] == segment.stored
        taken = owner[inside]
        for before in np.unique(taken[taken != 0]).tolist():
            count = int((taken == before).sum())
            notes.append(
                f"{count} voxels lie in {segments[before - 1].name} and in {segment.name}: the latter has them"
            )
        owner[inside] = number
        joined[inside] = value
    for number, layer in enumerate(layers):
        known = [0, *(segment.stored for segment in segments if segment.layer == number)]
        unknown = np.setdiff1d(np.unique(layer), known).tolist()
        if unknown:
            shown = ", ".join(str(int(value)) for value in unknown[:5])
            raise DataError("A mask cannot be used:", [Fault(f"holds values of no segment: {shown}", str(path))])
    return joined


def _place(own: Geometry, wanted: Geometry) -> tuple[int, int, int] | None:
    """Voxel (z, y, x) of the scan at which a cropped extent begins; None where it does not lie on the scan's voxels."""
    same = np.allclose(own.spacing, wanted.spacing, rtol=1e-3) and np.allclose(
        own.direction, wanted.direction, atol=1e-3
    )
    if not same or own.exact or wanted.exact:
        return None
    steps = wanted.axes() * np.asarray(wanted.spacing)[:, None]
    start = np.linalg.solve(steps.T, np.asarray(own.origin) - np.asarray(wanted.origin))
    whole = np.rint(start)
    if np.abs(start - whole).max() > _OFF or (whole + own.shape <= 0).any() or (whole >= wanted.shape).any():
        return None
    z, y, x = (int(value) for value in whole)
    return z, y, x


def _pasted(
    path: Path, mask: NDArray[np.integer[Any]], own: Geometry, grid: Geometry, notes: list[str]
) -> NDArray[np.integer[Any]]:
    place = _place(own, grid)
    if place is None:
        problem = f"has shape {own.shape}, and does not lie on the voxels of its scan of {grid.shape} (z, y, x)"
        raise DataError("A mask cannot be used:", [Fault(problem, str(path), "Export it on the grid of the scan")])
    whole = np.zeros(grid.shape, dtype=mask.dtype)
    ours, theirs = [], []
    for start, side, room in zip(place, own.shape, grid.shape, strict=True):
        ours.append(slice(max(0, start), min(room, start + side)))
        theirs.append(slice(max(0, -start), min(side, room - start)))
    whole[tuple(ours)] = mask[tuple(theirs)]
    lost = int((mask != 0).sum() - (whole != 0).sum())
    if lost:
        notes.append(f"{lost} voxels of {path.name} lie outside of the scan and are left out")
    return whole


def _whole(text: str | None, otherwise: int) -> int:
    try:
        return int(float(text)) if text else otherwise
    except ValueError:
        return otherwise


def _colour(text: str) -> Colour:
    try:
        red, green, blue = (round(255 * min(1.0, max(0.0, float(word)))) for word in text.split())
    except ValueError:
        return (0, 0, 0)
    return (red, green, blue)
