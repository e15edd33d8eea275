"""Whether a file is all there and undamaged: ITK reads a truncated or damaged NIfTI without complaint."""

from __future__ import annotations

import gzip
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabel.data.io.nifti import is_packed, put_back_not_finite, read_header, read_through, voxel_file

#: Files whose answer is remembered: those of a large data set, a few hundred bytes each.
_REMEMBERED = 1 << 16


def what_is_missing(path: Path) -> str:
    """What keeps a file from being complete and undamaged, or an empty text.

    The size that the header of a NIfTI file promises is held against what is there (in the ``.img`` beside a ``.hdr``),
    and a gzip file is read through once, so that its checksums are compared. A file that did not change since is not
    read again.

    Args:
        path: Any file; of formats other than NIfTI only gzip files are looked at.

    Raises:
        OSError: If it cannot be opened or read.
    """
    return _looked_at(path)[0]


def all_finite(path: Path) -> bool:
    """Whether all values of a file are finite numbers, as far as that was looked at (floating-point NIfTI files).

    Raises:
        OSError: If it cannot be opened or read.
    """
    return _looked_at(path)[1]


def restore_not_finite(path: Path, array: NDArray[Any]) -> NDArray[Any]:
    """What ITK read of a file, with NaN where a NIfTI file of floating-point numbers holds no finite number.

    ITK's NIfTI library hands such voxels over as 0, which is a bright value in a CT.

    Args:
        path: The file; others than NIfTI, and files whose values are all finite, are not read again.
        array: Its values in the order of the file (channels, z, y, x), the last index running fastest.

    Returns:
        The array, or a copy of it if something was restored.

    Raises:
        OSError: If the file cannot be opened or read.
        ValueError: If the array has another size than the header says.
    """
    if _looked_at(path)[1] or (header := read_header(path)) is None:
        return array
    restored = np.array(array, order="C")
    put_back_not_finite(voxel_file(path), header, restored)
    return restored


def _looked_at(path: Path) -> tuple[str, bool]:
    voxels = voxel_file(path)
    stamps = [
        (facts.st_size, facts.st_dev, facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns)
        for facts in (path.stat(), voxels.stat())
    ]
    return _examined(path, voxels, tuple(stamps))


@lru_cache(maxsize=_REMEMBERED)
def _examined(path: Path, voxels: Path, stamps: tuple[tuple[int, ...], ...]) -> tuple[str, bool]:
    """What is missing, and whether all values are finite numbers as far as they are looked at.

    Args:
        path: The file.
        voxels: The file that its voxels lie in.
        stamps: The size of each in bytes, and what else changes with their content.
    """
    del stamps
    try:
        header = read_header(path) if path.name.lower().endswith((".nii", ".nii.gz", ".hdr")) else None
        if header is None and not is_packed(voxels):
            return "", True
        length, finite = read_through(voxels, header)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        return f"damaged gzip content ({error})", True
    if header is None or length >= header.promised:
        return "", finite
    unit = "bytes unpacked" if is_packed(voxels) else "bytes"
    where = f" in {voxels.name}" if voxels != path else ""
    return f"{length} {unit}{where} of the {header.promised} that its header promises", finite
