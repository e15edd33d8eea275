"""Arrays in npz files of NumPy, with their shapes known before a voxel is read."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

#: What NumPy and zipfile raise on a damaged file.
NPZ_ERRORS = (zipfile.BadZipFile, ValueError, EOFError, KeyError, NotImplementedError)


@dataclass(frozen=True)
class NpzArray:
    """One array of a file; ``array[()]`` reads it."""

    archive: zipfile.ZipFile
    member: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Bytes of its values in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def size(self) -> int:
        """Its values."""
        return math.prod(self.shape)

    def __getitem__(self, place: tuple[()]) -> Any:
        with self.archive.open(self.member) as stream:
            return npy.read_array(stream, allow_pickle=False)[place]


class NpzFile:
    """An npz file open for reading, with the few methods of an HDF5 file that addresses need.

    Raises:
        OSError: If it cannot be opened.
        zipfile.BadZipFile: If it is damaged; reading may raise any of :data:`NPZ_ERRORS`.
    """

    def __init__(self, path: Path) -> None:
        self.archive = zipfile.ZipFile(path)

    def __iter__(self) -> Iterator[str]:
        return (name.removesuffix(".npy") for name in self.archive.namelist() if name.endswith(".npy"))

    def __getitem__(self, name: str) -> NpzArray:
        member = f"{name}.npy"
        with self.archive.open(member) as stream:
            version = npy.read_magic(stream)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, kind = read(stream)
        if np.dtype(kind).hasobject:
            raise ValueError(f"the array {name} holds Python objects")
        return NpzArray(self.archive, member, tuple(shape), np.dtype(kind))

    def close(self) -> None:
        """Close the file."""
        self.archive.close()
