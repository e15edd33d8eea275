"""Arrays on disk whose space is taken before they are written: a memory map on a full disk kills the process."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fewlabel.core.disk_room import full_disk_fault
from fewlabel.core.errors import DiskFullError, is_disk_full

#: File systems and libraries that cannot take space ahead.
_UNABLE = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV})


def reserved_arrays(folder: Path, arrays: Mapping[str, tuple[DTypeLike, Sequence[int]]]) -> list[Any]:
    """New ``.npy`` files as writable memory maps, in order; on the disk there is room for all of them.

    Where space cannot be taken ahead, what is free is compared with what is needed.

    Args:
        folder: Where to make them; must exist.
        arrays: Name of each file to the data type and shape of its array.

    Raises:
        DiskFullError: If there is no room; names the folder, what is needed and what is free. No file is left.
        OSError: If a file cannot be made.
    """
    free = shutil.disk_usage(folder).free
    try:
        maps = [
            np.lib.format.open_memmap(folder / name, "w+", np.dtype(dtype), tuple(shape))
            for name, (dtype, shape) in arrays.items()
        ]
        _take([folder / name for name in arrays], free)
    except BaseException as error:
        for name in arrays:
            (folder / name).unlink(missing_ok=True)
        if is_disk_full(error):
            raise _full(folder, arrays) from error
        raise
    return maps


def let_go(array: Any) -> None:
    """Give back the memory that pages of a memory-mapped file take in this process; their content stays in the file.

    Args:
        array: Such an array or a part of one; of others nothing happens. What is read next comes from the file again.
    """
    while array is not None and not isinstance(array, mmap.mmap):
        array = getattr(array, "base", None)
    if array is not None and hasattr(mmap, "MADV_DONTNEED"):
        array.madvise(mmap.MADV_DONTNEED)


def _take(paths: Sequence[Path], free: int) -> None:
    """Take the space of files that have their lengths already; ``free`` decides where the system cannot.

    Raises:
        OSError: If there is not enough.
    """
    if all(_taken(path) for path in paths):
        return
    if sum(path.stat().st_size for path in paths) > free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _taken(path: Path) -> bool:
    """Take the space of a file that has its length already; False if the system cannot."""
    if not hasattr(os, "posix_fallocate"):
        return False
    with path.open("r+b") as stream:
        try:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno in _UNABLE:
                return False
            raise
    return True


def _full(folder: Path, arrays: Mapping[str, tuple[DTypeLike, Sequence[int]]]) -> DiskFullError:
    needed = sum(int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize for dtype, shape in arrays.values())
    return DiskFullError("The disk is full; nothing was written:", [full_disk_fault(folder, needed)])
