"""Scans and masks as paths of a catalog name them, read: files, arrays in files, and what is composed of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.errors import DataError, Fault
from fewlabel.data.io.composite_paths import Coloured, Segments, Stack, parse_composite
from fewlabel.data.io.composite_reading import assembled_geometry, assembled_image, assembled_mask
from fewlabel.data.io.dicom.address import DicomMask, DicomScan, parse_dicom
from fewlabel.data.io.dicom.data_set_index import open_archive
from fewlabel.data.io.dicom.masks import read_dicom_mask
from fewlabel.data.io.file_names import check_name, is_segmentation
from fewlabel.data.io.geometry import Geometry, Volume, grid_faults
from fewlabel.data.io.hdf5_and_npz_arrays import Address
from fewlabel.data.io.itk_image import read_channels, read_header
from fewlabel.data.io.mask_file import read_mask_file, whole_numbers
from fewlabel.data.io.slicer_segmentation import read_segmentation, segmentation_faults

#: Formats of pictures, which hold no size of what they show.
_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif"})


def read_geometry(path: Path) -> Geometry:
    """Geometry from headers; packed files, floating-point numbers and arrays of HDF5 are read through once.

    So damage shows, and channels without a finite number.

    Raises:
        DataError: If a file is missing, incomplete, damaged, unreadable or not a 2D to 4D image.
    """
    if (address := Address.parse(path)) is not None:
        return replace(_unplaced(address), blank=(0,) if address.is_blank() else ())
    if (dicom := parse_dicom(path)) is not None:
        return open_archive(dicom.root).series(dicom.scan).geometry
    composite = parse_composite(path)
    return _told(path, read_header(path) if composite is None else assembled_geometry(composite))


def read_volume(paths: Path | Sequence[Path]) -> Volume:
    """Read a scan, one path per channel; a 2D image becomes one slice, the 4th axis of a file becomes channels.

    Voxels of NIfTI files that are not finite are NaN.

    Args:
        paths: One file, or one per channel, all on one grid.

    Raises:
        DataError: If a file cannot be read or its grid differs from the first channel's.
    """
    files = (paths,) if isinstance(paths, Path) else tuple(paths)
    read = [_read_image(path) for path in files]
    geometries = [geometry for _, geometry in read]
    faults = [
        fault
        for path, geometry in zip(files[1:], geometries[1:], strict=True)
        for fault in grid_faults(files[0], geometries[0], path, geometry)
    ]
    if faults:
        raise DataError("The channels of a scan must share one grid:", faults)
    if len(read) == 1:
        return Volume(read[0][0], geometries[0], files)
    whole = np.empty((sum(len(array) for array, _ in read), *geometries[0].shape), dtype=np.float32)
    first = 0
    while read:
        array, _ = read.pop(0)
        whole[first : first + len(array)] = array
        first += len(array)
    return Volume(whole, geometries[0], files)


def read_mask(path: Path, notes: list[str] | None = None, grid: Geometry | None = None) -> NDArray[np.integer[Any]]:
    """Read a mask as whole numbers (z, y, x).

    Args:
        path: Of the mask.
        notes: Takes what is unusual about it and does no harm.
        grid: Of its scan; a cropped segmentation by 3D Slicer is put into its place there.

    Raises:
        DataError: If it cannot be read, has several channels, or holds values that are not whole numbers.
    """
    notes = [] if notes is None else notes
    if (address := Address.parse(path)) is not None:
        check_name(address.file)
        return whole_numbers(path, address.read(), notes)
    if (dicom := parse_dicom(path)) is not None:
        return _dicom_mask(path, dicom, notes)
    composite = parse_composite(path)
    if composite is not None:
        return assembled_mask(composite, notes, grid)
    return read_segmentation(path, notes, grid) if is_segmentation(path) else read_mask_file(path, notes)


def needs_grid(path: Path) -> bool:
    """Whether a mask may cover a part of its scan alone, so that :func:`read_mask` needs the scan's geometry."""
    return is_segmentation(path) or isinstance(parse_composite(path), Segments)


def mask_faults(
    image: Path, wanted: Geometry | None, mask: Path, *, accept_origin: bool = False
) -> tuple[Geometry, list[Fault]]:
    """The geometry of a mask, and what sets its grid apart from that of its scan.

    Args:
        image: The scan.
        wanted: Its geometry; None if that is not known.
        mask: Path of the mask.
        accept_origin: Whether a mask may lie elsewhere, if all else agrees.

    Raises:
        DataError: If the mask cannot be read.
    """
    own = read_geometry(mask)
    if wanted is None:
        return own, []
    if needs_grid(mask):
        composite = parse_composite(mask)
        file = mask if composite is None else composite.files[0]
        return own, segmentation_faults(image, wanted, file, accept_origin=accept_origin)
    return own, grid_faults(image, wanted, mask, own, accept_origin=accept_origin)


def _read_image(path: Path) -> tuple[NDArray[np.float32], Geometry]:
    if (address := Address.parse(path)) is not None:
        geometry = _unplaced(address)
        return np.ascontiguousarray(address.read(np.float32)[None]), geometry
    if (dicom := parse_dicom(path)) is not None:
        volume = open_archive(dicom.root).series(dicom.scan).read()
        return volume.array, volume.geometry
    composite = parse_composite(path)
    array, geometry = read_channels(path) if composite is None else assembled_image(composite)
    return array, _told(path, geometry)


def _dicom_mask(path: Path, dicom: DicomScan | DicomMask, notes: list[str]) -> NDArray[np.integer[Any]]:
    if isinstance(dicom, DicomMask):
        return read_dicom_mask(dicom, notes)
    # An image of labels.
    return whole_numbers(path, open_archive(dicom.root).series(dicom.scan).read().array[0], notes)


def _unplaced(address: Address) -> Geometry:
    """Geometry of an array that does not know where it lies: axes along the patient's, origin 0."""
    check_name(address.file)
    upright = tuple(np.eye(3).ravel().tolist())
    known = address.spacing_known
    return Geometry(address.shape(), address.spacing, (0.0, 0.0, 0.0), upright, spacing_known=known)


def _told(path: Path, geometry: Geometry) -> Geometry:
    """The geometry, and whether it is known how large voxels are: pictures say at most how large to print them."""
    composite = parse_composite(path)
    if isinstance(composite, Coloured) and composite.stack is not None:
        composite = composite.stack
    if isinstance(composite, Stack):
        return replace(geometry, spacing_known=composite.spacing is not None)
    file = path if composite is None else composite.files[0]
    return replace(geometry, spacing_known=file.suffix.lower() not in _PICTURES)
