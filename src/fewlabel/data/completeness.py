"""Whether a file is all there and undamaged: ITK reads a truncated or spoilt NIfTI without a word."""

from __future__ import annotations

import gzip
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabel.data.nifti import is_packed, put_back_not_finite, read_header, read_through

#: Files whose answer is remembered: those of a large data set, a few hundred bytes each.
_REMEMBERED = 1 << 16


def what_is_missing(path: Path) -> str:
    """What keeps a file from being complete and undamaged, or an empty text.

    The size that the header of a NIfTI file promises is held against what is there, and a gzip file is read through
    once, so that its checksums are compared. A file that did not change since is not read again.

    Args:
        path: Any file; of formats other than single-file NIfTI only gzip files are looked at.

    Raises:
        OSError: If it cannot be opened or read.
    """
    return _looked_at(path)[0]


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
    put_back_not_finite(path, header, restored)
    return restored


def _looked_at(path: Path) -> tuple[str, bool]:
    facts = path.stat()
    return _examined(path, (facts.st_size, facts.st_dev, facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns))


@lru_cache(maxsize=_REMEMBERED)
def _examined(path: Path, stamp: tuple[int, ...]) -> tuple[str, bool]:
    """What is missing, and whether all values are finite numbers as far as they are looked at.

    Args:
        path: The file.
        stamp: Its size in bytes, and what else changes with its content.
    """
    name = path.name.lower()
    try:
        header = read_header(path) if name.endswith((".nii", ".nii.gz")) else None
        whole = header is None or header.dtype is None
        # Whole numbers without a checksum have nothing to show but their number.
        length, finite = (stamp[0], True) if whole and not is_packed(path) else read_through(path, header)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        return f"damaged gzip content ({error})", True
    if header is None or length >= header.promised:
        return "", finite
    unit = "bytes unpacked" if is_packed(path) else "bytes"
    return f"{length} {unit} of the {header.promised} that its header promises", finite
