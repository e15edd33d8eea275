"""Arrays in npz files of NumPy, with their shapes known before a voxel is read."""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

#: What NumPy and zipfile raise on a damaged file.
NPZ_ERRORS = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, SyntaxError, tokenize.TokenError),
    *(ValueError, TypeError, LookupError, ArithmeticError, RuntimeError),
)


@dataclass(frozen=True)
class NpzArray:
    """One array of a file, with what its header says; ``array[()]`` reads it."""

    archive: zipfile.ZipFile
    member: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in memory."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, place: Any) -> Any:
        return self._values[place]

    @property
    def held(self) -> int:
        """Bytes of the archive that it is in; none where it declares more than these unpack to."""
        member = self.archive.getinfo(self.member)
        return member.compress_size if self.nbytes <= member.file_size else 0

    @cached_property
    def _values(self) -> Any:
        with self.archive.open(self.member) as stream:
            return npy.read_array(stream, allow_pickle=False)


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
        stored: np.dtype[Any] = np.dtype(kind)
        if stored.hasobject:
            raise ValueError(f"the array {name} holds Python objects")
        return NpzArray(self.archive, member, tuple(shape), stored)

    def close(self) -> None:
        """Close the file."""
        self.archive.close()
