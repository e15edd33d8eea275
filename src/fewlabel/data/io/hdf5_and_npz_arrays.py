"""Arrays in HDF5 and npz files as scans: an address gives the array, the order of its axes and the size of a voxel.

Such files hold voxels without geometry. What they lack travels in the path, so that a catalog, a prepared store and
the key over its sources carry it without any file beside: ``FOLDER/FILE.h5#KEY,ORDER,SLICExROWxCOLUMN``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fewlabel.core.errors import DataError, Fault, reason
from fewlabel.core.memory_limit import too_large
from fewlabel.data.io.files_named_in_files import check_h5_links
from fewlabel.data.io.npz import NPZ_ERRORS, NpzArray, NpzFile

SUFFIX = ".h5"
NPZ = ".npz"
#: Order of the stored axes: ``zyx`` has the slices first, ``xyz`` last.
Order = Literal["zyx", "xyz"]
#: Bytes that nobody minds, whatever a file declares; and bytes that one byte of a file can hold at most.
_HARMLESS, _DENSEST = 1 << 26, 2048
_ASSUMED = (1.0, 1.0, 1.0)
_ADDRESS = re.compile(
    r"(?P<file>.+\.(?:h5|npz))#(?P<key>[^,#]+),(?P<order>zyx|xyz),"
    r"(?P<spacing>[^,#x]+x[^,#x]+x[^,#xm]+)(?P<unit>mm)?$"
)


@dataclass(frozen=True)
class Address:
    """One array of an HDF5 or npz file, or one slice each of a row of numbered files.

    Attributes:
        file: The file. With ``*`` in its name all files that have a number there, in the order of the numbers.
        key: Name of the array in the file; 2D is one slice.
        order: How the axes of a 3D array are stored.
        spacing: Voxel size in mm along (z, y, x).
        said: Whether somebody said that it is 1 mm along each axis; else that is an assumption.
    """

    file: Path
    key: str
    order: Order
    spacing: tuple[float, float, float]
    said: bool = False

    @classmethod
    def parse(cls, path: Path) -> Address | None:
        """The address that a path is, or None for the path of an ordinary file."""
        match = _ADDRESS.match(path.name)
        if match is None:
            return None
        z, y, x = (float(step) for step in match["spacing"].split("x"))
        order: Order = "xyz" if match["order"] == "xyz" else "zyx"
        return cls(path.with_name(match["file"]), match["key"], order, (z, y, x), match["unit"] is not None)

    @property
    def path(self) -> Path:
        """The address as a path; there is no file of that name."""
        steps = "x".join(repr(float(step)) for step in self.spacing)
        unit = "mm" if self.said else ""
        return self.file.with_name(f"{self.file.name}#{self.key},{self.order},{steps}{unit}")

    @property
    def spacing_known(self) -> bool:
        """Whether ``spacing`` is true, not assumed."""
        return self.said or self.spacing != _ASSUMED

    @property
    def stem(self) -> str:
        """Name of the file without suffix and slice number."""
        return self.file.name.removesuffix(self.file.suffix).replace("*", "").rstrip("_-.") or "scan"

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold the array, in the order of the slices; none where numbered ones are gone."""
        return tuple(path for _, path in self._numbered())

    def _numbered(self) -> list[tuple[int, Path]]:
        """Slice number and file, in order; an ordinary file is number 0."""
        if "*" not in self.file.name:
            return [(0, self.file)]
        before, _, after = self.file.name.partition("*")
        numbered = re.compile(re.escape(before) + r"(\d+)" + re.escape(after) + "$")
        matches = ((numbered.match(path.name), path) for path in self.file.parent.glob(f"*{self.file.suffix}"))
        return sorted((int(match[1]), path) for match, path in matches if match)

    def shape(self) -> tuple[int, int, int]:
        """Voxels along (z, y, x); of volumes of floating-point numbers some are read, to see whether they are finite.

        Raises:
            DataError: If a file cannot be read or holds no such array of numbers, none of them is finite, or a slice of
                a stack is missing.
        """
        first, *more = self._present()
        shape = self._stored_shape(first, shapes_of(first))
        facts = first.stat()
        stamp = (facts.st_size, facts.st_ino, facts.st_mtime_ns)
        if not more and (fault := _content_fault(first, self.key, stamp)) is not None:
            raise DataError("A scan cannot be used:", [fault])
        if more or "*" in self.file.name:
            return (1 + len(more), *self._slice_shape(first, shape))
        if len(shape) == 2:
            return (1, *self._slice_shape(first, shape))
        depth, height, width = shape if self.order == "zyx" else shape[::-1]
        return (depth, height, width)

    def read(self, dtype: DTypeLike | None = None) -> NDArray[Any]:
        """The array (z, y, x).

        Args:
            dtype: Of the result; None for that which it is stored in.

        Raises:
            DataError: If a file cannot be read, holds no such array, a slice of a stack is missing, or slices differ
                in size.
        """
        files = self._present()
        arrays = [self._voxels(file, dtype) for file in files]
        if "*" not in self.file.name:
            array = arrays[0]
            if array.ndim == 2:
                return array[None]
            return array if self.order == "zyx" else np.ascontiguousarray(array.transpose(2, 1, 0))
        wanted = arrays[0].shape
        faults = [
            Fault(f"must have the size of the first slice, {wanted}, not {array.shape}", str(file))
            for file, array in zip(files, arrays, strict=True)
            if array.shape != wanted
        ]
        if faults:
            raise DataError("A stack of slices cannot be used:", faults)
        return np.stack(arrays)

    def is_blank(self) -> bool:
        """Whether no value of the array is a finite number; the array is read, but once until a file changes.

        Raises:
            DataError: As :meth:`read`.
        """
        return _is_blank(self, tuple((file.stat().st_size, file.stat().st_mtime_ns) for file in self._present()))

    def _present(self) -> tuple[Path, ...]:
        numbered = self._numbered()
        if not numbered:
            raise DataError("A file cannot be read:", [Fault("no file matches", str(self.file), "Restore the slices")])
        steps = [(low, high) for (low, _), (high, _) in pairwise(numbered) if high != low + 1]
        if steps:
            gaps = ", ".join(f"{low} then {high}" if low != high else f"{low} twice" for low, high in steps[:3])
            more = f" and {len(steps) - 3} more" if len(steps) > 3 else ""
            problem = f"slices are not numbered consecutively: {gaps}{more}"
            remedy = "Restore the missing slices, or number them without gaps"
            raise DataError("A stack of slices cannot be used:", [Fault(problem, str(self.file), remedy)])
        return tuple(path for _, path in numbered)

    def _stored_shape(self, file: Path, arrays: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
        if self.key not in arrays:
            present = ", ".join(sorted(arrays)) or "nothing"
            problem, remedy = f'must hold an array "{self.key}", but holds {present}', "Store it under that name"
            fault = Fault(problem, str(file), remedy)
            raise DataError("A file cannot be read:", [fault])
        shape = arrays[self.key]
        if len(shape) not in {2, 3}:
            problem, remedy = (
                f"must be 2D or 3D, but has shape {shape}",
                "Store each channel or frame in a file of its own",
            )
            fault = Fault(problem, f"{file}, {self.key}", remedy)
            raise DataError("A scan cannot be used:", [fault])
        return shape

    def _slice_shape(self, file: Path, shape: tuple[int, ...]) -> tuple[int, int]:
        if len(shape) != 2:
            fault = Fault(f"must be a 2D slice, but has shape {shape}", f"{file}, {self.key}")
            raise DataError("A stack of slices cannot be used:", [fault])
        return (shape[0], shape[1])

    def _voxels(self, file: Path, dtype: DTypeLike | None) -> NDArray[Any]:
        with _opened(file) as content:
            shape = self._stored_shape(file, _shapes(content))
            if "*" in self.file.name:
                self._slice_shape(file, shape)
            array = content[self.key]
            _check_numbers(array, f"{file}, {self.key}")
            if dtype is None or array.dtype == dtype or file.suffix == NPZ:
                return np.asarray(array[()], dtype=dtype)
            # Some rows of chunks at a time: the whole is there once, in the type that is asked for.
            whole = np.empty(shape, dtype=dtype)
            deep = array.chunks[0] if array.chunks else 1
            for first in range(0, shape[0], deep):
                whole[first : first + deep] = array[first : first + deep]
            return whole


@lru_cache(maxsize=1 << 16)
def _is_blank(address: Address, stamps: tuple[tuple[int, int], ...]) -> bool:
    """Of the files as their sizes and times have them."""
    del stamps
    array = address.read()
    if array.dtype.kind not in "biuf":
        fault = Fault(f"must hold numbers, not {array.dtype}", f"{address.file}, {address.key}")
        raise DataError("A scan cannot be used:", [fault])
    return not np.isfinite(array).any()


def shapes_of(file: Path) -> dict[str, tuple[int, ...]]:
    """The arrays of a file and their shapes; no voxel is read.

    Raises:
        DataError: If it is missing or damaged.
    """
    with _opened(file) as content:
        return _shapes(content)


def _shapes(content: Any) -> dict[str, tuple[int, ...]]:
    arrays = {name: _item(content, name) for name in content}
    return {name: tuple(item.shape) for name, item in arrays.items() if hasattr(item, "shape")}


def _item(content: Any, name: str) -> Any:
    try:
        if not isinstance(content, NpzFile):
            check_h5_links(content, name)
        return content[name]
    except (KeyError, OSError) as error:
        # A link, within the file or into another one.
        problem = f'"{name}" is a link that leads to nothing'
        remedy = "Copy the file that it leads to as well, or store the array itself"
        raise DataError(
            "A file cannot be read:", [Fault(problem, str(getattr(content, "filename", "")), remedy)]
        ) from error


@lru_cache(maxsize=1 << 16)
def _content_fault(file: Path, key: str, stamp: tuple[int, ...]) -> Fault | None:
    """What keeps the values of an array from being those of a scan; None if nothing does.

    Args:
        file: The file.
        key: Of an array in it.
        stamp: What changes with the file's content.
    """
    del stamp
    with _opened(file) as content:
        array = content[key]
        try:
            _check_numbers(array, f"{file}, {key}")
        except DataError as error:
            return error.faults[0]
        # A packed array is read as a whole, one in HDF5 slice by slice up to the first number.
        slices = array[()] if file.suffix == NPZ else (array[at] for at in range(array.shape[0]))
        if array.dtype.kind == "f" and array.size and not any(np.isfinite(values).any() for values in slices):
            return Fault("has no finite voxel", f"{file}, {key}", "Export it again, or leave it out")
    return None


def _check_numbers(array: Any, where: str) -> None:
    """Refuse what is no array of numbers, or does not fit into memory.

    Raises:
        DataError: If so.
    """
    if array.dtype.kind not in "biuf":
        fault = Fault(f"must hold numbers, not {array.dtype}", where, "Store the voxels as numbers")
        raise DataError("A scan cannot be used:", [fault])
    # A file may declare more than it holds, which would all be filled in.
    held = array.held if isinstance(array, NpzArray) else int(array.id.get_storage_size())
    problem = too_large(array.nbytes + 4 * array.size)
    if not problem and array.nbytes > _HARMLESS and array.nbytes > _DENSEST * held:
        problem = f"has {held} bytes in the file, which cannot hold {array.nbytes}"
    # HDF5 unpacks a chunk as a whole, whatever is asked of it.
    chunk = 0 if isinstance(array, NpzArray) else math.prod(array.chunks or (0,)) * array.dtype.itemsize
    if not problem and chunk > max(_HARMLESS, array.nbytes):
        problem = f"is stored in chunks of {chunk} bytes, though all of it has {array.nbytes}"
    if problem:
        fault = Fault(f"{problem} (its shape is {tuple(array.shape)})", where, "Check its shape, or write it again")
        raise DataError("A scan cannot be used:", [fault])


class _opened:  # noqa: N801  # used as a statement: with _opened(file) as content
    """A file open for reading; what its library raises on a bad one becomes a DataError that names it."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __enter__(self) -> Any:
        if not self.file.is_file():
            raise DataError("A file cannot be read:", [Fault("no such file", str(self.file))])
        try:
            self.content = self._open()
        except (OSError, *NPZ_ERRORS) as error:
            raise self._damaged(error) from error
        return self.content

    def _open(self) -> Any:
        if self.file.suffix == NPZ:
            return NpzFile(self.file)
        import h5py

        return h5py.File(self.file, "r")

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.content.close()
        npz = self.file.suffix == NPZ
        if isinstance(error, (OSError, *NPZ_ERRORS) if npz else OSError):
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> DataError:
        kind = "npz" if self.file.suffix == NPZ else "HDF5"
        problem = f"is not a complete {kind} file ({reason(error)})"
        fault = Fault(problem, str(self.file), "Copy or download it again")
        return DataError("A file cannot be read:", [fault])
