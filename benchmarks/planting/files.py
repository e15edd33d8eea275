"""Small scans and masks, and ways to spoil them."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk  # noqa: N813  # the name its own manual uses
from numpy.typing import NDArray

SHAPE = (6, 20, 24)
AFFINE = np.diag([-1.5, -1.5, 8.0, 1.0])
#: Of a DICOM file: 128 bytes of anything, then its mark.
DICOM = b"\0" * 128 + b"DICM" + b"\2\0\0\0UL\4\0\0\0\0\0" + b"\0" * 400


def image(number: int, shape: Sequence[int] = SHAPE) -> NDArray[np.float32]:
    """Intensities (z, y, x) that differ for each number, brighter where the mask is."""
    noise = np.random.default_rng(number).normal(100, 10, tuple(shape))
    return (noise + 50 * mask(shape)).astype(np.float32)


def mask(shape: Sequence[int] = SHAPE) -> NDArray[np.uint8]:
    """Two classes in every slice, neither of them symmetric."""
    found = np.zeros(tuple(shape), np.uint8)
    height, width = found.shape[-2:]
    found[..., 2 : height // 2, 3 : width // 2] = 1
    found[..., height // 2 : height - 3, 4 : width // 2 + 2] = 2
    return found


def write(path: Path, array: NDArray[Any], affine: NDArray[np.float64] = AFFINE) -> Path:
    """An image (z, y, x) in the format of its suffix; ``affine`` counts for NIfTI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith((".nii", ".nii.gz")):
        nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(array.T), affine), path)
        return path
    if path.suffix == ".hdr":
        nibabel.save(nibabel.Nifti1Pair(np.ascontiguousarray(array.T), affine), path)
        return path
    made = sitk.GetImageFromArray(array)
    if array.ndim == 3:
        made.SetSpacing((1.5, 1.5, 8.0))
    sitk.WriteImage(made, str(path))
    return path


def write_colours(path: Path, array: NDArray[np.uint8]) -> Path:
    """A picture (row, column, colour), or a volume of such."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=True), str(path))
    return path


def cut(path: Path, share: float = 0.6) -> Path:
    """Keep the first part of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def edit(path: Path, form: str, at: int, *values: Any) -> Path:
    """Write other values into a header, of a packed file too."""
    packed = path.suffix == ".gz"
    content = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    struct.pack_into(form, content, at, *values)
    path.write_bytes(gzip.compress(bytes(content)) if packed else bytes(content))
    return path


def flip_bits(path: Path) -> Path:
    """Change some voxels of a gzip file, whose checksum then does not fit."""
    content = gzip.decompress(path.read_bytes())
    packer = zlib.compressobj(0, zlib.DEFLATED, -15)
    other = bytearray(content)
    other[-200:-150] = bytes(value ^ 0x5A for value in other[-200:-150])
    body = packer.compress(bytes(other)) + packer.flush()
    sums = struct.pack("<II", zlib.crc32(content), len(content))
    path.write_bytes(b"\x1f\x8b\x08\0\0\0\0\0\0\3" + body + sums)
    return path
